#!/bin/sh
# Makes what the lab boots beside the guest's kernel, in build/lab (or OUTDIR):
#
#     tests/lab/lib/build.sh IMAGES OUTDIR
#
#   initramfs.cpio        busybox, the modules that reach the root file system, tests/lab/init and hold-kvm
#   modules-HASH/VERSION  every module of the kernel, the often used ones uncompressed
#   current               the name of the newest of those: labs that run keep the one they started with
#
# Nothing is done when nothing has changed.
set -eu
export LC_ALL=C

lab=$(cd "$(dirname "$0")/.." && pwd)
images=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)

die() {
    echo "lab: $*" >&2
    exit 1
}

PATH=$PATH:/usr/sbin:/sbin
for tool in gcc cpio xz zstd depmod flock busybox; do
    command -v $tool >/dev/null || die "$tool is missing; images/host-setup.sh lab installs it"
done
[ -s "$images/kernel/version" ] || die "$images has no kernel; images/build.sh makes it"

exec 9>"$out/.lock"
flock 9
inputs=$(cat "$images/kernel/version" "$lab/lib/build.sh" "$lab/modules" "$lab/init" "$lab/lib/hold-kvm.c" "$(command -v busybox)" | sha256sum)
[ "$(cat "$out/stamp" 2>/dev/null)" != "$inputs" ] || exit 0

echo "lab: making its initramfs and module tree" >&2
rm -rf "$out"/.tmp.*
tmp=$out/.tmp.$$
mkdir "$tmp"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

read -r kver _ <"$images/kernel/version"
tree=$images/kernel/lib/modules/$kver

# files GROUP: the files of a group's modules and of those they depend on, the needed ones first
files() {
    awk -v want="$(sed -n "s/^$1://p" "$lab/modules" | tr '\n' ' ')" '
        function base(p) { sub(/.*\//, "", p); sub(/\.ko.*/, "", p); gsub(/-/, "_", p); return p }
        { path = $1; sub(/:$/, "", path); line = ""; for (i = NF; i > 1; i--) line = line $i "\n"; deps[base(path)] = line path }
        END { n = split(want, w, " "); for (i = 1; i <= n; i++) if (base(w[i]) in deps) print deps[base(w[i])] }
    ' "$tree/modules.dep" | awk '!seen[$0]++'
}

# unpack FROM TO
unpack() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -qdc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

# The tree is hard links, so it costs next to nothing; its depmod files are its own.
modules=modules-$(cat "$images/kernel/version" "$lab/modules" "$lab/lib/build.sh" | sha256sum | cut -c1-12)
if [ ! -d "$out/$modules" ]; then
    mkdir -p "$tmp/m/lib/modules"
    cp -al "$tree" "$tmp/m/lib/modules/" 2>/dev/null || cp -a "$tree" "$tmp/m/lib/modules/"
    rm -f "$tmp/m/lib/modules/$kver"/modules.[!bo]*
    files host >"$tmp/host"
    while read -r f; do
        case $f in
        *.ko) ;;
        *)
            unpack "$tree/$f" "$tmp/m/lib/modules/$kver/${f%.*}"
            rm "$tmp/m/lib/modules/$kver/$f"
            ;;
        esac
    done <"$tmp/host"
    depmod -b "$tmp/m" "$kver"
    mv "$tmp/m/lib/modules" "$out/$modules"
fi

root=$tmp/root
mkdir -p "$root/bin" "$root/mod" "$root/proc" "$root/dev" "$root/lower" "$root/rw" "$root/root" "$root/etc"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh mount mkdir insmod mknod ls ln ip cat switch_root sleep poweroff cp; do
    ln -s busybox "$root/bin/$applet"
done
# What scripts use all the time and busybox does just as well (lib/agent.sh says why).
mkdir "$root/quick"
ln "$root/bin/busybox" "$root/quick/busybox"
for applet in basename cat chmod cmp cut dirname expr grep head ln ls mkdir mkfifo mktemp mv readlink rm rmdir sed seq sleep \
    sort tail touch tr truncate uniq wc; do
    ln -s busybox "$root/quick/$applet"
done
n=100
files boot >"$tmp/boot"
while read -r f; do
    name=${f##*/}
    unpack "$tree/$f" "$root/mod/$n-${name%%.*}.ko"
    n=$((n + 1))
done <"$tmp/boot"
install -m 755 "$lab/init" "$root/init"
gcc -O2 -Wall -Werror -static -o "$root/bin/hold-kvm" "$lab/lib/hold-kvm.c"
(cd "$root" && find . -mindepth 1 -print0 | sort -z | cpio --quiet -0 -o -H newc -R 0:0) >"$tmp/initramfs.cpio"

rm -f "$out/stamp"
mv "$tmp/initramfs.cpio" "$out/initramfs.cpio"
echo "$modules" >"$out/current"
# Trees of earlier versions go, unless a lab runs and may use one.
busy=
for t in "$out"/tmp.*; do
    [ ! -d "$t" ] || [ ! -d "/proc/${t##*.}" ] || busy=1
done
for t in "$out"/modules*; do
    [ -n "$busy" ] || [ "$t" = "$out/$modules" ] || rm -rf "$t"
done
echo "$inputs" >"$out/stamp"
