# For lab scripts about disks, after lib/lab.sh: images of known content, a script for the guest as a disk, and a
# guest whose root file system is on a disk.
# shellcheck shell=sh

# sample_images: the same 24 MiB as $raw (a file), $device (a block device over it, for mvm serves what is on tmpfs
# without io_uring) and $qcow; $host is the checksum of the first 4 MiB, the rest reads as zeroes
sample_images() {
    raw=$LAB_TMP/raw.img
    qcow=$LAB_TMP/disk.qcow2
    truncate -s 24M "$raw"
    head -c 4m /dev/urandom | dd of="$raw" conv=notrunc status=none
    qemu-img convert -f raw -O qcow2 "$raw" "$qcow"
    # shellcheck disable=SC2034 # the script's
    host=$(head -c 4m "$raw" | sha256sum | cut -c1-64)
    modprobe loop
    # shellcheck disable=SC2034 # the script's
    device=$(losetup --find --show "$raw")
}

# script_disk FILE: standard input is a script; prints the words for mvm's command line with which a
# guest runs it from that disk, a virtio one that must be the only one
script_disk() {
    cat >"$1"
    disk_size=$(wc -c <"$1")
    truncate -s 64K "$1"
    echo "mvm.run=\"head -c $disk_size /dev/vda >/tmp/s; sh /tmp/s\""
}

# root_image FILE: an ext4 file system whose init says where it is, writes a file and powers off
root_image() {
    root_tree=$LAB_TMP/root-tree
    rm -rf "$root_tree"
    mkdir -p "$root_tree/bin" "$root_tree/sbin" "$root_tree/dev" "$root_tree/proc" "$root_tree/sys"
    cp /bin/busybox "$root_tree/bin/busybox"
    for applet in sh mount cp sync sha256sum cut tail stty poweroff; do ln -s busybox "$root_tree/bin/$applet"; done
    cat >"$root_tree/sbin/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -o remount,rw /
echo "root: $(while read -r dev dir type rest; do [ "$dir" != / ] || echo "$dev $type"; done </proc/mounts | tail -n 1)"
cp /bin/busybox /copy && sync && echo "root: copied $(sha256sum </copy | cut -c1-64)"
mount -o remount,ro / && echo "root: clean"
stty -ixon </dev/console 2>/dev/null
poweroff -f
INIT
    chmod +x "$root_tree/sbin/init"
    rm -f "$1"
    mke2fs -q -t ext4 -d "$root_tree" "$1" 24M
}

# root_initrd FILE: the default guest's initramfs with another first process, for rdinit=/to-root: it
# loads the drivers of disks and goes over to root=DEVICE
root_initrd() {
    initrd_tree=$LAB_TMP/initrd-tree
    mkdir -p "$initrd_tree"
    cat >"$initrd_tree/to-root" <<'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
modprobe -a nvme ata_piix sd_mod ext4
root=$(sed -n 's/.*root=\([^ ]*\).*/\1/p' /proc/cmdline)
n=0
while [ ! -b "$root" ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done
mkdir -p /new
mount -t ext4 -o ro "$root" /new || { echo "to-root: cannot mount $root"; poweroff -f; }
umount /sys /proc
mount --move /dev /new/dev
exec switch_root /new /sbin/init
INIT
    chmod +x "$initrd_tree/to-root"
    { cat "$MVM_IMAGES/initramfs.cpio.gz" && (cd "$initrd_tree" && echo to-root | cpio -o -H newc --quiet | gzip -1); } >"$1"
}

# boots_from_root NAME DEVICE IMAGE WORDS MVM-FLAGS...: a guest of one vCPU whose root is on the device
boots_from_root() {
    root_name=$1 root_device=$2 root_file=$3 root_words=$4
    shift 4
    [ -e "$LAB_TMP/to-root.gz" ] || root_initrd "$LAB_TMP/to-root.gz"
    guest_run "$root_name" 240 "$MVM_BUILD/mvm" --memory=512M --initrd="$LAB_TMP/to-root.gz" "$@" \
        --append="quiet rdinit=/to-root root=$root_device $root_words"
    is "$?" 0 "$root_name: a guest boots from its root file system and powers off"
    like "$(guest_text "$root_name")" "^root: $root_device ext4$" "$root_name: the root is on $root_device"
    like "$(guest_text "$root_name")" "^root: copied $(sha256sum </bin/busybox | cut -c1-64)$" \
        "$root_name: what it wrote reads back"
    like "$(guest_text "$root_name")" '^root: clean$' "$root_name: the root goes back to read-only"
    qemu-img convert -O raw "$root_file" "$LAB_TMP/root.raw"
    check "$root_name: the file system is clean" e2fsck -fn "$LAB_TMP/root.raw"
    rm -f "$LAB_TMP/root.raw"
}
