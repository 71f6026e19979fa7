#!/bin/sh
# Makes mvm's default guest from Debian packages:
#
#     images/build.sh [OUTDIR]        (default: build/images beside this directory)
#
#   vmlinux             the kernel as an ELF file
#   bzImage             the same as Debian ships it
#   initramfs.cpio.gz   busybox, drivers, fio, iperf3, ethtool, pciutils, nvme-cli and an init
#   disk.img            a small ext4 disk with files to check
#   manifest            what went in and what came out
#   kernel/             the kernel package unpacked, with all its modules (the lab uses them)
#
# It needs no root. Packages are fetched once into $MVM_CACHE (default: cache/ beside OUTDIR); with
# them there it needs no network. Outputs appear under their names only when complete, so a run
# that was stopped is repaired by the next; nothing is done when nothing has changed.
set -eu
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../build/images}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cache=${MVM_CACHE:-$(dirname "$out")/cache}
# One date for every file inside the images, so that the same inputs give the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1735689600}
export SOURCE_DATE_EPOCH

say() {
    echo "images: $*" >&2
}

die() {
    say "$*"
    exit 1
}

for tool in apt-get dpkg dpkg-query cpio gzip xz zstd depmod mke2fs debugfs gcc readelf nm flock sha256sum; do
    command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin
    command -v "$tool" >/dev/null || die "$tool is missing; images/host-setup.sh images installs it"
done

# Two builds at once (make -j, two terminals) take turns.
exec 9>"$out/.lock"
flock -n 9 || {
    say "waiting for another build in $out"
    flock 9
}

# --- is there anything to do? ---------------------------------------------------------------

inputs=$(cd "$here" && {
    echo "$SOURCE_DATE_EPOCH"
    sha256sum build.sh extract-vmlinux.sh packages modules init udhcpc.script waitnet disk/*
} | sha256sum | cut -d' ' -f1)

up_to_date() {
    [ "$(sed -n 's/^inputs //p' "$out/manifest" 2>/dev/null)" = "$inputs" ] || return 1
    for f in vmlinux bzImage initramfs.cpio.gz disk.img kernel/version; do
        [ -s "$out/$f" ] || return 1
    done
}
! up_to_date || exit 0

rm -rf "$out"/.tmp.*
tmp=$out/.tmp.$$
mkdir "$tmp"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- packages -------------------------------------------------------------------------------

debs=$cache/debs
mkdir -p "$debs"
rm -rf "$debs"/.get.*

# The machine's own package lists, or when those are missing or old, a private copy that anybody
# may refresh.
apt_dirs=
apt() {
    tool=$1
    shift
    # shellcheck disable=SC2086 # options
    "$tool" -o APT::Sandbox::User="$(id -un)" $apt_dirs "$@"
}
refresh() {
    [ -z "$apt_dirs" ] || return 0
    say "refreshing the package lists"
    mkdir -p "$cache/apt/state/lists/partial" "$cache/apt/cache/archives/partial"
    apt_dirs="-o Dir::State=$cache/apt/state -o Dir::Cache=$cache/apt/cache -o Dir::State::status=$cache/apt/status"
    : >"$cache/apt/status"
    # A source that does not answer is no harm as long as the packages are found.
    apt apt-get -qq update 2>"$cache/apt/log" || :
}

# deb_of NAME VERSION: prints the path of the cached package, if there is one
deb_of() {
    for f in "$debs/$1_$(echo "$2" | sed 's/:/%3a/g')"_*.deb; do
        [ ! -f "$f" ] || {
            echo "$f"
            return
        }
    done
}

# on_mirror NAME VERSION (from the list that resolve asks for)
on_mirror() {
    grep -Fqx "$1 $2" "$tmp/mirror"
}

# newest NAME: "name version" of what the mirror has; for a kernel, the newest of its series
newest() {
    name=$1
    case $name in
    linux-image-*)
        name=$(apt apt-cache pkgnames linux-image-6.12. |
            grep -E '^linux-image-6\.12\.[0-9]+\+deb[0-9]+-amd64$' | sort -V | tail -n 1)
        ;;
    esac
    [ -n "$name" ] || return 0
    version=$(apt apt-cache madison "$name" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2; exit }')
    [ -z "$version" ] || echo "$name $version"
}

# newest_cached NAME: the same from the cache, for work without a network
newest_cached() {
    case $1 in
    linux-image-*) glob='linux-image-6.12.*' ;;
    *) glob=$1 ;;
    esac
    # shellcheck disable=SC2086,SC2012 # a pattern; names without odd characters
    ls "$debs"/${glob}_*.deb 2>/dev/null | sort -V | tail -n 1 |
        sed 's|.*/||; s|^\([^_]*\)_\([^_]*\)_.*|\1 \2|; s/%3a/:/g'
}

# fetch NAME=VERSION...: into the cache, each file complete or not at all
fetch() {
    get=$debs/.get.$$
    mkdir -p "$get"
    quiet=-qq
    [ ! -t 2 ] || quiet=
    # shellcheck disable=SC2086
    (cd "$get" && apt apt-get $quiet download "$@" >&2) 2>"$get/log" || {
        grep '^E:' "$get/log" | head -n 3 >&2
        rm -rf "$get"
        return 1
    }
    mv "$get"/*.deb "$debs/"
    rm -rf "$get"
}

grep -Ev '^[[:space:]]*(#|$)' "$here/packages" >"$tmp/packages"

# resolve: what to use of each package -> $tmp/used "name version files"; what lacks -> $tmp/lacking
resolve() {
    : >"$tmp/used"
    : >"$tmp/lacking"
    moved=
    # shellcheck disable=SC2046 # a list of names
    apt apt-cache madison $(cut -d' ' -f1 "$tmp/packages") 2>/dev/null |
        awk -F'|' '{ gsub(/ /, ""); print $1, $2 }' >"$tmp/mirror" || :
    while read -r name version files; do
        if [ -z "$(deb_of "$name" "$version")" ] && ! on_mirror "$name" "$version"; then
            if [ -z "$apt_dirs" ]; then
                return 1
            fi
            other=$(newest "$name")
            [ -n "$other" ] || other=$(newest_cached "$name")
            [ -n "$other" ] || die "$name: neither the mirror nor $debs has it (is there a network?)"
            moved="$moved $name=$version->${other#* }"
            name=${other% *} version=${other#* }
        fi
        echo "$name $version $files" >>"$tmp/used"
        [ -n "$(deb_of "$name" "$version")" ] || echo "$name=$version" >>"$tmp/lacking"
    done <"$tmp/packages"
}
resolve || {
    refresh
    resolve
}
[ -z "$moved" ] || say "pinned versions that the mirror has no more, replaced:$moved"
if [ -s "$tmp/lacking" ]; then
    say "downloading $(wc -l <"$tmp/lacking") packages (some 120 MB the first time)"
    # shellcheck disable=SC2046 # a list of names
    fetch $(cat "$tmp/lacking") || {
        refresh
        resolve
        fetch $(cat "$tmp/lacking") || die "download failed; try again when the mirror answers"
    }
fi

# unpack NAME VERSION DIR
unpack() {
    deb=$(deb_of "$1" "$2")
    dpkg -x "$deb" "$3" || {
        rm -f "$deb"
        die "$deb was damaged and is removed now; run this again"
    }
}

# --- kernel ---------------------------------------------------------------------------------

kname=$(awk '/^linux-image-/ { print $1 }' "$tmp/used")
kdeb=$(awk '/^linux-image-/ { print $2 }' "$tmp/used")
kver=${kname#linux-image-}
if [ "$(cat "$out/kernel/version" 2>/dev/null)" != "$kver $kdeb" ]; then
    say "unpacking kernel $kver"
    mkdir "$tmp/kernel"
    unpack "$kname" "$kdeb" "$tmp/kernel"
    rm -rf "$tmp/kernel/usr"
    depmod -b "$tmp/kernel" "$kver"
    echo "$kver $kdeb" >"$tmp/kernel/version"
    rm -rf "$out/kernel"
    mv "$tmp/kernel" "$out/kernel"
fi
tree=$out/kernel/lib/modules/$kver

say "making vmlinux"
cp "$out/kernel/boot/vmlinuz-$kver" "$tmp/bzImage"
"$here/extract-vmlinux.sh" "$tmp/bzImage" "$tmp/vmlinux"

# --- initramfs ------------------------------------------------------------------------------

say "making initramfs.cpio.gz"
root=$tmp/root
all=$tmp/all
mkdir -p "$root" "$all"
(
    cd "$root"
    mkdir -p bin dev etc lib lib64 mnt proc root run sys tmp usr/lib usr/share/misc usr/share/udhcpc var
    mkdir -p sbin "lib/modules/$kver" lib/x86_64-linux-gnu
    ln -s ../bin ../sbin usr/
    ln -s ../../lib/x86_64-linux-gnu usr/lib/
    ln -s ../run ../tmp var/
)

while read -r name version files; do
    case $name in linux-image-*) continue ;; esac
    unpack "$name" "$version" "$all"
    for f in $files; do
        to=$root/sbin
        case $f in bin/* | usr/bin/*) to=$root/bin ;; esac
        cp "$all/$f" "$to/"
    done
done <"$tmp/used"

# Shared libraries: what the programs need, what those need, and so on. Some libraries stay out:
# see below.
libdir=$root/lib/x86_64-linux-gnu
absent='^lib(gfapi|nbd|ibverbs|rdmacm|rados|rbd|pmemblk|pmem|nvme-mi|xenctrl|wrap)\.so'
needed_by() {
    readelf -d "$@" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u
}
: >"$tmp/absent"
# shellcheck disable=SC2046
set -- $(find "$root/bin" "$root/sbin" -type f)
programs=$*
while [ $# -gt 0 ]; do
    new=
    for lib in $(needed_by "$@"); do
        if echo "$lib" | grep -Eq "$absent"; then
            echo "$lib" >>"$tmp/absent"
            continue
        fi
        [ ! -e "$libdir/$lib" ] || continue
        from=$(find "$all" -name "$lib" | head -n 1)
        [ -n "$from" ] || die "initramfs: $lib is needed by one of: $*; add its package to images/packages"
        cp -L "$from" "$libdir/$lib"
        new="$new $libdir/$lib"
    done
    # shellcheck disable=SC2086
    set -- $new
done
mv "$libdir"/ld-linux-x86-64.so.2 "$root/lib64/"
ln -s ../../lib64/ld-linux-x86-64.so.2 "$libdir/"

# Debian's fio is linked with Ceph, GlusterFS, RDMA and more: 90 MB of libraries that no guest of
# ours calls. One small library stands in for all of them: it has their names, and says so and ends
# the program when one of its functions is called after all. (The same for nvme's MCTP, kexec's
# Xen and socat's TCP wrappers.)
sort -u "$tmp/absent" -o "$tmp/absent"
# shellcheck disable=SC2086 # a list of names
nm -D -S $programs 2>/dev/null | awk '$1 == "U" { print $2, 0 } $3 == "B" { print $4, $2 }' |
    sort -u >"$tmp/wanted"
nm -D --defined-only "$libdir"/*.so* "$root"/lib64/*.so* 2>/dev/null | awk 'NF == 3 { sub(/@.*/, "", $3); print $3 }' | sort -u >"$tmp/defined"
awk -v asm="$tmp/absent.S" -v map="$tmp/absent.map" '
    NR == FNR { defined[$1] = 1; next }
    {
        n = split($1, part, "@")
        if (part[1] in defined) next
        if ($2 != "0")
            printf ".globl %s\n.comm %s, 0x%s\n.type %s, @object\n", part[1], part[1], $2, part[1] > asm
        else
            printf ".globl %s\n.type %s, @function\n%s: jmp fail\n", part[1], part[1], part[1] > asm
        if (n > 1) version[part[n]] = version[part[n]] " " part[1] ";"
    }
    END {
        printf "fail: mov $1, %%eax; mov $2, %%edi; lea text(%%rip), %%rsi; mov $(end - text), %%edx; syscall\n" > asm
        printf "mov $231, %%eax; mov $127, %%edi; syscall\n" > asm
        printf "text: .ascii \"this needs a library that the mvm guest leaves out\\n\"\nend:\n" > asm
        printf ".section .note.GNU-stack, \"\", @progbits\n" > asm
        for (v in version) printf "%s { global:%s };\n", v, version[v] | "sort >" map
    }' "$tmp/defined" "$tmp/wanted"
gcc -shared -nostdlib -Wl,--build-id=none -Wl,-soname,libabsent.so -Wl,--version-script="$tmp/absent.map" \
    -o "$libdir/libabsent.so" "$tmp/absent.S"
strip "$libdir/libabsent.so"
while read -r lib; do
    ln -s libabsent.so "$libdir/$lib"
done <"$tmp/absent"

for applet in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$applet" ] || [ -e "$root/sbin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
for link in modprobe init poweroff reboot halt; do # the kernel and scripts look for some in /sbin
    [ -e "$root/sbin/$link" ] || ln -s ../bin/busybox "$root/sbin/$link"
done
ln -s mke2fs "$root/sbin/mkfs.ext4"
cp "$all/etc/mke2fs.conf" "$root/etc/"

# lspci's names: the vendors that the guest may meet, and all the class names
awk '/^[0-9a-f]/ { keep = $1 ~ /^(1022|10de|10ec|1234|144d|14e4|15b3|1af4|1b36|1b96|8086|c0a9)$/ }
    /^C / { keep = 1 }
    keep && !/^#/ && !/^\t\t[0-9a-f]+ [0-9a-f]+ / { print }' "$all/usr/share/misc/pci.ids" >"$root/usr/share/misc/pci.ids"

# Modules with all that they depend on, unpacked: xz would be undone in the guest, slowly.
awk -v want="$(grep -v '^#' "$here/modules" | tr '\n' ' ')" '
    function base(p) { sub(/.*\//, "", p); sub(/\.ko.*/, "", p); gsub(/-/, "_", p); return p }
    {
        path = $1
        sub(/:$/, "", path)
        line = path
        for (i = 2; i <= NF; i++) line = line " " $i
        files[base(path)] = line
    }
    END {
        n = split(want, w, " ")
        for (i = 1; i <= n; i++) {
            m = base(w[i])
            if (!(m in files)) { print "images: no module " w[i] " in this kernel" > "/dev/stderr"; bad = 1; continue }
            print files[m]
        }
        exit bad
    }' "$tree/modules.dep" >"$tmp/modules" || die "fix images/modules"
tr ' ' '\n' <"$tmp/modules" | sort -u >"$tmp/module-files"
mods=$root/lib/modules/$kver
while read -r m; do
    mkdir -p "$mods/$(dirname "$m")"
    case $m in
    *.xz) xz -dc "$tree/$m" >"$mods/${m%.xz}" ;;
    *.zst) zstd -qdc "$tree/$m" >"$mods/${m%.zst}" ;;
    *) cp "$tree/$m" "$mods/$m" ;;
    esac
done <"$tmp/module-files"
cp "$tree/modules.builtin" "$tree/modules.order" "$mods/"
depmod -b "$root" "$kver" 2>/dev/null || die "depmod failed for the initramfs"
# busybox reads the text form only
rm -f "$mods"/*.bin "$mods"/modules.symbols "$mods"/modules.order

install -m 755 "$here/init" "$root/init"
install -m 755 "$here/waitnet" "$root/bin/waitnet"
install -m 755 "$here/udhcpc.script" "$root/usr/share/udhcpc/default.script"
echo ext4 >"$root/etc/filesystems" # so that mount without -t loads its module
echo mvm >"$root/etc/hostname"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo '127.0.0.1 localhost mvm' >"$root/etc/hosts"
echo "PS1='mvm:\\w# '" >"$root/etc/profile"

find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$root" && find . -mindepth 1 -print0 | sort -z | cpio --quiet -0 -o -H newc --reproducible -R 0:0) >"$tmp/initramfs.cpio"
# gzip, as every boot loader and kernel takes it: in an emulated guest it unpacks in half a second, 0.2 s
# more than no compression or lz4 would take, and 0.2 s less than zstd; and the file is a third.
gzip -n -6 -c "$tmp/initramfs.cpio" >"$tmp/initramfs.cpio.gz"
[ "$(wc -c <"$tmp/initramfs.cpio.gz")" -le $((30 * 1000 * 1000)) ] || die "initramfs.cpio.gz is larger than 30 MB"

# --- disk -----------------------------------------------------------------------------------

say "making disk.img"
mkdir -p "$tmp/disk/data"
cp "$here"/disk/* "$tmp/disk/"
# Sixteen bytes a line, every line different: no two sectors are alike, so a misplaced one shows.
seq -f %015.0f 1 65536 >"$tmp/disk/data/lines-1M"
seq -f %015.0f 1000001 1524288 >"$tmp/disk/data/lines-8M"
: >"$tmp/disk/data/empty"
(cd "$tmp/disk" && find . -type f | sort | xargs sha256sum) >"$tmp/sums"
mv "$tmp/sums" "$tmp/disk/SHA256SUMS"
find "$tmp/disk" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
uuid=6d766d00-0000-4000-8000-000000000001
truncate -s 64M "$tmp/disk.img"
mke2fs -q -F -t ext4 -b 4096 -L mvm -U $uuid -E "hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" \
    -d "$tmp/disk" "$tmp/disk.img"
# (Blocks of 4096 make one block group: no copies of the superblock with dates of their own.)
# mke2fs takes owners and change times from this machine; give every inode fixed ones.
(cd "$tmp/disk" && find . -printf '/%P\n' && echo /lost+found && seq -f '<%.0f>' 1 10) | while read -r f; do
    for field in "uid 0" "gid 0" "ctime @$SOURCE_DATE_EPOCH" "atime @$SOURCE_DATE_EPOCH" "mtime @$SOURCE_DATE_EPOCH" \
        "crtime @$SOURCE_DATE_EPOCH" "ctime_extra 0" "atime_extra 0" "mtime_extra 0" "crtime_extra 0"; do
        echo "sif $f $field"
    done
done >"$tmp/sif"
cat >>"$tmp/sif" <<END
ssv wtime @$SOURCE_DATE_EPOCH
ssv mkfs_time @$SOURCE_DATE_EPOCH
ssv lastcheck @$SOURCE_DATE_EPOCH
END
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH debugfs -w -f "$tmp/sif" "$tmp/disk.img" >"$tmp/debugfs.log" 2>&1

# --- done -----------------------------------------------------------------------------------

{
    echo "# mvm's default guest: what went in (package version), what came out (sha256 size name)"
    echo "inputs $inputs"
    awk '{ print "package", $1, $2 }' "$tmp/used"
    for f in vmlinux bzImage initramfs.cpio.gz disk.img; do
        echo "output $(sha256sum <"$tmp/$f" | cut -d' ' -f1) $(wc -c <"$tmp/$f") $f"
    done
} >"$tmp/manifest"
rm -f "$out/manifest"
for f in vmlinux bzImage initramfs.cpio.gz disk.img manifest; do
    mv "$tmp/$f" "$out/$f"
done
say "done: $(du -h "$out/vmlinux" | cut -f1) vmlinux, $(du -h "$out/initramfs.cpio.gz" | cut -f1) initramfs, in $out"
