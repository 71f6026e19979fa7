#!/bin/sh
# Takes the ELF kernel (vmlinux) out of a bzImage, so that a boot need not decompress it in the
# guest: under emulation that costs seconds.
#
#     images/extract-vmlinux.sh BZIMAGE VMLINUX
#
# The bzImage's own setup header says where the payload lies: Linux, Documentation/arch/x86/boot.rst,
# fields setup_sects (0x1f1), payload_offset (0x248) and payload_length (0x24c).
set -eu

die() {
    echo "extract-vmlinux: $*" >&2
    exit 1
}

[ $# -eq 2 ] || die "usage: extract-vmlinux.sh BZIMAGE VMLINUX"
image=$1 out=$2
[ -r "$image" ] || die "$image: cannot be read"

# number OFFSET SIZE: a little-endian number of the image
number() {
    od -An -v -tu"$2" -j "$1" -N "$2" "$image" | tr -d ' \n'
}

[ "$(od -An -v -tx1 -j 514 -N 4 "$image" | tr -d ' \n')" = 48647253 ] ||
    die "$image: no HdrS at 0x202: not a bzImage"
[ "$(number 518 2)" -ge 520 ] || die "$image: boot protocol older than 2.08: no payload fields"

sects=$(number 497 1)
[ "$sects" -ne 0 ] || sects=4
start=$(((sects + 1) * 512 + $(number 584 4)))
length=$(number 588 4)
[ $((start + length)) -le "$(wc -c <"$image")" ] ||
    die "$image: the payload ends at $((start + length)), after the end of the file"

# Every format but gzip is followed by four bytes of unpacked size, which are not part of it.
cut=4
case $(od -An -v -tx1 -j "$start" -N 6 "$image" | tr -d ' \n') in
28b52ffd*) unpack="zstd -dc" ;;
fd377a585a00) unpack="xz -dc" ;;
5d0000*) unpack="xz --format=lzma -dc" ;;
425a68*) unpack="bzip2 -dc" ;;
02214c18*) unpack="lz4 -dc" ;;
1f8b*) unpack="gzip -dc" cut=0 ;;
7f454c46*) unpack="cat" ;;
*) die "$image: payload at $start has a format that is not known" ;;
esac
command -v "${unpack%% *}" >/dev/null || die "${unpack%% *} is missing; images/host-setup.sh images installs it"

trap 'rm -f "$out.tmp"' EXIT
# The tool's own status decides, so no pipe's end hides it.
tail -c +$((start + 1)) "$image" | head -c $((length - cut)) | $unpack >"$out.tmp" ||
    die "$image: $unpack failed on the payload at $start"
[ "$(od -An -v -tx1 -N 4 "$out.tmp" | tr -d ' \n')" = 7f454c46 ] || die "$image: the payload is not an ELF file"
mv "$out.tmp" "$out"
