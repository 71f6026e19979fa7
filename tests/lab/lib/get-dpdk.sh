#!/bin/sh
# Fetches DPDK's testpmd with its vhost driver from Debian into a directory, for lab scripts that ask for it
# (tools=dpdk in a header). Its package depends on all of DPDK, udev included; what testpmd loads is some 5 MB.
# Nothing is installed.
#
#     tests/lab/lib/get-dpdk.sh OUTDIR      (build/lab/dpdk)
#
# OUTDIR/testpmd starts it; it adds the drivers net_vhost and mempool_ring, and no other. Exit status 77: the
# packages cannot be had.
set -eu
export LC_ALL=C

[ $# -eq 1 ] || {
    echo "usage: get-dpdk.sh OUTDIR" >&2
    exit 2
}
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

die() {
    echo "get-dpdk: $*" >&2
    exit 1
}
# lack WHY: there is nothing to be had: whoever asked does without
lack() {
    echo "get-dpdk: $*" >&2
    exit 77
}

exec 9>"$out.lock"
flock 9
[ ! -x "$out/testpmd" ] || exit 0
for tool in apt-get apt-cache dpkg ldd; do
    command -v $tool >/dev/null || die "$tool is missing"
done
new=$out.new
rm -rf "$new" "$out"
mkdir -p "$new/debs"
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT TERM HUP
lib=$new/usr/lib/$(gcc -print-multiarch)

# get PACKAGE...: of what this machine has package lists of; an old list is fetched anew, once
get() {
    (cd "$new/debs" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$@") 2>"$new/log" || {
        [ "$(id -u)" -ne 0 ] || apt-get -qq update 2>>"$new/log" || :
        (cd "$new/debs" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$@") 2>>"$new/log"
    } || {
        tail -n 5 "$new/log" >&2
        lack "these packages are not to be had: $*"
    }
    for package in "$@"; do
        dpkg -x "$new/debs/${package}"_*.deb "$new"
    done
}

# Libraries that are neither here nor there yet, as the packages that Debian's policy has them in: libX.so.N is
# in libXN, or libX-N if X ends with a digit.
missing() {
    for file in "$new"/usr/bin/dpdk-testpmd "$lib"/*.so.* "$lib"/dpdk/pmds-*/*.so.*; do
        LD_LIBRARY_PATH=$lib ldd "$file" 2>/dev/null || :
    done | sed -n 's/^[ \t]*\(lib[^ ]*\)\.so\.\([0-9]*\)[^ ]* => not found.*/\1 \2/p' | sort -u | tr _ - |
        sed 's/\([0-9]\) /\1-/; s/ //'
}

echo "lab: fetching DPDK's testpmd (some 5 MB, once)" >&2
get dpdk-dev
version=$(cd "$new/debs" && echo dpdk-dev_*.deb | sed 's/[^_]*_\([0-9]*\.[0-9]*\).*/\1/')
names=$(dpkg -f "$new"/debs/dpdk-dev_*.deb Depends | tr ',' '\n' | sed 's/^ *\([^ ]*\).*/\1/' |
    grep -Ex 'ibverbs-providers|lib(ibverbs|pcap|bsd|elf|fdt|jansson|numa)[0-9.]*|librte-eal[0-9]*')
abi=$(echo "$names" | sed -n 's/^librte-eal//p')
# shellcheck disable=SC2086 # a list of names
get $names "librte-net-vhost$abi" "librte-mempool-ring$abi"
for _ in 1 2 3 4 5 6; do
    more=$(missing)
    [ -n "$more" ] || break
    # shellcheck disable=SC2086
    get $more
done
[ -z "$more" ] || die "DPDK $version still lacks: $more"
rm -rf "$new/debs" "$new/log"

cat >"$new/testpmd" <<'END'
#!/bin/sh
# Starts testpmd with the libraries and drivers beside this file.
here=$(dirname "$(readlink -f "$0")")
for lib in "$here"/usr/lib/*; do
    LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
for driver in "$here"/usr/lib/*/dpdk/pmds-*/librte_net_vhost.so.*.* "$here"/usr/lib/*/dpdk/pmds-*/librte_mempool_ring.so.*.*; do
    set -- -d "$driver" "$@"
done
exec "$here/usr/bin/dpdk-testpmd" "$@"
END
chmod +x "$new/testpmd"
"$new/testpmd" --version >/dev/null 2>&1 || "$new/testpmd" -v --help >/dev/null 2>&1 || die "what came does not run"
mv "$new" "$out"
