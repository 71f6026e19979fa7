#!/bin/sh
# Fetches Debian's backport of QEMU into a directory, for lab devices that the release's QEMU lacks
# (igb, SR-IOV NVMe). Nothing is installed; the machine's own QEMU stays what it was.
#
#     tests/lab/lib/get-qemu.sh OUTDIR      (build/lab/qemu)
#
# OUTDIR/qemu-system-x86_64 starts it. The mirror is the one this machine has its packages from. Exit status 77: it
# has none, or cannot be reached.
set -eu
export LC_ALL=C

[ $# -eq 1 ] || {
    echo "usage: get-qemu.sh OUTDIR" >&2
    exit 2
}
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

die() {
    echo "get-qemu: $*" >&2
    exit 1
}
none() {
    echo "get-qemu: $*" >&2
    exit 77
}

# shellcheck disable=SC1091 # the system's
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$codename" ] || none "this is no Debian release"
suite=$codename-backports

mkdir -p "$out.cache"
exec 9>"$out.cache/.lock"
flock 9
[ ! -x "$out/qemu-system-x86_64" ] || exit 0
tmp=$out.tmp
rm -rf "$tmp"
mkdir -p "$tmp/sources" "$tmp/debs" "$tmp/apt/lists/partial" "$tmp/apt/cache/archives/partial"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# The machine's own entries, and those of the release again with the suite changed.
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -f "$f" ] || awk -v from="$codename" -v to="$suite" '
        /^[ \t]*deb[ \t]/ {
            for (i = 2; i <= NF; i++)
                if ($i == from) { print; $i = to; print; break }
        }' "$f" >>"$tmp/sources/release.list"
done
for f in /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$f" ] || awk -v from="$codename" -v to="$suite" '
        BEGIN { RS = ""; FS = "\n" }
        {
            text = ""
            mine = 0
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^#/) continue
                if ($i ~ /^Suites:/) {
                    n = split($i, w, /[ \t]+/)
                    for (k = 2; k <= n; k++) if (w[k] == from) mine = 1
                    $i = "Suites: " from " " to
                }
                text = text $i "\n"
            }
            if (mine) print text
        }' "$f" >>"$tmp/sources/release.sources"
done
[ -s "$tmp/sources/release.list" ] || [ -s "$tmp/sources/release.sources" ] ||
    none "no apt source of this machine has the suite $codename"

apt() {
    tool=$1
    shift
    "$tool" -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$tmp/sources" -o Dir::State::Lists="$tmp/apt/lists" \
        -o Dir::Cache="$tmp/apt/cache" -o APT::Get::List-Cleanup=0 "$@"
}
echo "lab: fetching QEMU from $suite into $out (some 30 MB)" >&2
apt apt-get -qq update 2>"$tmp/log" || {
    tail -n 5 "$tmp/log" >&2
    none "the package lists of $suite cannot be read"
}
# What an installation would add to this machine: QEMU, and any library that is newer than here.
apt apt-get -s install --no-install-recommends -t "$suite" qemu-system-x86 |
    sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*/\1=\3/p' >"$tmp/list"
grep -q '^qemu-system-x86=' "$tmp/list" || none "$suite has no newer qemu-system-x86"
# shellcheck disable=SC2046 # a list of names
(cd "$tmp/debs" && apt apt-get -qq download $(cat "$tmp/list")) || none "the download failed; try again"
mkdir "$tmp/root"
for deb in "$tmp/debs"/*.deb; do
    dpkg -x "$deb" "$tmp/root"
done

cat >"$tmp/root/qemu-system-x86_64" <<'END'
#!/bin/sh
# Starts the QEMU beside this file with the libraries and data beside it.
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
QEMU_MODULE_DIR=$here/usr/lib/x86_64-linux-gnu/qemu
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec "$here/usr/bin/qemu-system-x86_64" -L "$here/usr/share/qemu" -L "$here/usr/share/seabios" -L /usr/share/qemu "$@"
END
chmod +x "$tmp/root/qemu-system-x86_64"
"$tmp/root/qemu-system-x86_64" --version >/dev/null || die "what came does not run"
rm -rf "$out"
mv "$tmp/root" "$out"
"$out/qemu-system-x86_64" --version | head -n 1 >&2
