#!/bin/sh
# Builds kernel modules that Debian's kernel lacks and lab scripts ask for (modules=SET in a header):
#
#     tests/lab/lib/kmod.sh IMAGES OUTDIR SET...      (build/images, build/lab)
#
#   mtty     OUTDIR/kmod/mtty: the sample driver of mediated devices (serial ports made of software)
#   iommufd  OUTDIR/kmod/iommufd: iommufd, and VFIO with its cdev, instead of Debian's vfio modules
#
# They come from Debian's linux-source and headers of the very kernel in IMAGES, fetched with apt-get
# and unpacked in OUTDIR/kmod: nothing is installed. Nothing is done when nothing has changed. Exit status 77: the
# sources cannot be had here.
set -eu
export LC_ALL=C

[ $# -ge 3 ] || {
    echo "usage: kmod.sh IMAGES OUTDIR SET..." >&2
    exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
images=$1
mkdir -p "$2/kmod"
out=$(cd "$2/kmod" && pwd)
shift 2

die() {
    echo "lab: $*" >&2
    exit 1
}

for tool in gcc make dpkg apt-get xz tar flock; do
    command -v $tool >/dev/null || die "$tool is missing; images/host-setup.sh lab installs it"
done
[ -s "$images/kernel/version" ] || die "$images has no kernel; images/build.sh makes it"
read -r kver version <"$images/kernel/version"
series=${kver%%+*}
source=linux-source-${series%.*}

exec 9>"$out/.lock"
flock 9
inputs=$(cat "$images/kernel/version" "$here/kmod.sh" | sha256sum)
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$inputs" ]; then
    find "$out" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    echo "$inputs" >"$out/stamp"
fi
todo=
for set in "$@"; do
    case $set in
    mtty | iommufd) [ -e "$out/$set/done" ] || todo="$todo $set" ;;
    *) die "no set of modules \"$set\"; there are: mtty iommufd" ;;
    esac
done
[ -n "$todo" ] || exit 0
trap 'exit 130' INT TERM HUP

# --- sources ------------------------------------------------------------------------------------

# get PACKAGE=VERSION...: into debs/, by the machine's package lists or, if they are old, our own
get() {
    mkdir -p "$out/debs"
    (cd "$out/debs" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$@") 2>"$out/log" && return
    mkdir -p "$out/apt/state/lists/partial" "$out/apt/cache/archives/partial"
    : >"$out/apt/status"
    set -- -o APT::Sandbox::User="$(id -un)" -o Dir::State="$out/apt/state" -o Dir::Cache="$out/apt/cache" \
        -o Dir::State::status="$out/apt/status" download "$@"
    apt-get -qq "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" update 2>>"$out/log" || :
    (cd "$out/debs" && apt-get -qq "$@") 2>>"$out/log" || {
        tail -n 5 "$out/log" >&2
        echo "lab: no source or headers of kernel $version to be had (it may be outdated: make images takes the newest)" >&2
        exit 77
    }
}

if [ ! -e "$out/src/done" ]; then
    echo "lab: fetching and unpacking the kernel's source for:$todo (some 170 MB, once)" >&2
    rm -rf "$out/src" "$out/headers" "$out/debs"
    mkdir -p "$out/src" "$out/headers"
    get "$source=$version" "linux-headers-$kver=$version" "linux-headers-${kver%-*}-common=$version" \
        "linux-kbuild-${kver%-*}=$version"
    for deb in "$out"/debs/linux-[hk]*.deb; do
        dpkg -x "$deb" "$out/headers"
    done
    dpkg --fsys-tarfile "$out/debs/$source"_*.deb | tar -xO "./usr/src/$source.tar.xz" | xz -dc -T0 |
        tar -x -C "$out/src" --strip-components=1 --wildcards "$source/samples/vfio-mdev" \
            "$source/drivers/iommu/*.h" "$source/drivers/iommu/iommufd" "$source/drivers/vfio" \
            "$source/lib/interval_tree.c"
    for f in samples/vfio-mdev/mtty.c drivers/iommu/iommufd/main.c drivers/vfio/group.c lib/interval_tree.c; do
        [ -s "$out/src/$f" ] || die "$source has no $f"
    done
    # The headers' own makefile says where they would be installed; BTF needs tools and is of no use here.
    tree=$out/headers/usr/src/linux-headers-$kver
    sed -i "s|/usr/src/|$out/headers/usr/src/|" "$tree/Makefile"
    rm -rf "$tree/vmlinux" "$out/debs" "$out/apt"
    touch "$out/src/done"
fi

# --- building -----------------------------------------------------------------------------------

# kbuild DIRECTORY [WORD...]: the modules of a directory of our own
kbuild() {
    dir=$1
    shift
    make -s -C "$out/headers/usr/src/linux-headers-$kver" M="$dir" -j"$(nproc)" CONFIG_DEBUG_INFO_BTF_MODULES= \
        "$@" modules >"$out/log" 2>&1 9>&- || {
        tail -n 20 "$out/log" >&2
        die "the modules of $dir do not build"
    }
}

build_mtty() {
    cp "$out/src/samples/vfio-mdev/mtty.c" "$work/"
    echo "obj-m := mtty.o" >"$work/Makefile"
    kbuild "$work"
}

# Debian's kernel has CONFIG_IOMMUFD off: what the kernel itself would have had for it (walking the gaps of
# an interval tree) comes along inside iommufd, with the names of what the kernel does have changed.
build_iommufd() {
    mkdir -p "$work/iommu" "$work/vfio"
    cp "$out"/src/drivers/iommu/*.h "$work/iommu/"
    cp -r "$out/src/drivers/iommu/iommufd" "$work/iommu/iommufd"
    cp -r "$out"/src/drivers/vfio/. "$work/vfio/"
    sed 's/^EXPORT_SYMBOL[A-Z_]*(.*);//' "$out/src/lib/interval_tree.c" >"$work/iommu/iommufd/interval_tree.c"
    renames=
    for f in insert remove iter_first iter_next; do
        renames="$renames -Dinterval_tree_$f=iommufd_tree_$f"
    done
    printf 'iommufd-y += interval_tree.o\nCFLAGS_interval_tree.o := %s\n' "$renames" >>"$work/iommu/iommufd/Makefile"
    flags="-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1"
    set -- CONFIG_IOMMUFD=m CONFIG_IOMMUFD_DRIVER=y CONFIG_VFIO_DEVICE_CDEV=y KCFLAGS="$flags"
    kbuild "$work/iommu/iommufd" "$@"
    kbuild "$work/vfio" "$@" KBUILD_EXTRA_SYMBOLS="$work/iommu/iommufd/Module.symvers"
}

for set in $todo; do
    echo "lab: building $set for $kver" >&2
    work=$out/work-$set
    rm -rf "$work" "${out:?}/$set"
    mkdir "$work"
    "build_$set"
    mkdir "$out/$set"
    find "$work" -name '*.ko' -exec cp {} "$out/$set/" \;
    [ "$(echo "$out/$set"/*.ko)" != "$out/$set/*.ko" ] || die "$set gave no modules"
    rm -rf "$work"
    touch "$out/$set/done"
done
