#!/bin/sh
# virtio-blk and virtio-rng with Linux's drivers, by each transport and each ring: data checked in the guest and
# from the host, the driver taken away and given back in between.
# lab: timeout=900
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
# shellcheck disable=SC2016 # the guest expands these
work='lsmod | grep -c virtio_blk;
    echo driver $(basename $(readlink -f /sys/block/vda/device/..));
    fio --name=v --filename=/dev/vda --size=4M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1
        --verify=crc32c --minimal >/dev/null && echo fio verified;
    modprobe -r virtio_blk && modprobe virtio_blk && sleep 1;
    dd if=/dev/urandom bs=1M count=4 of=/tmp/r 2>/dev/null;
    dd if=/tmp/r bs=64k of=/dev/vda oflag=direct conv=fsync 2>/dev/null;
    echo sum $(sha256sum </tmp/r | cut -c1-64);
    dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c'

# by NAME FORMAT KEYS WHERE: the disk by these keys
by() {
    disk=$LAB_TMP/$1.img
    qemu-img create -q -f "$2" "$disk" 16M
    guest_run "$1" 180 "$mvm" --memory=512M --cpus=2 --blk=virtio:"$disk",format="$2","$3" --rng=virtio,"$4" \
        --append="quiet mvm.run=\"$(one_line "$work")\""
    is "$?" 0 "$1: the guest powers off"
    like "$(guest_text "$1")" '^fio verified$' "$1: fio finds all it wrote"
    like "$(guest_text "$1")" '^2048$' "$1: entropy is read"
    sum=$(guest_text "$1" | sed -n 's/^sum //p')
    qemu-img convert -f "$2" -O raw "$disk" "$disk.raw"
    is "$(head -c 4M "$disk.raw" | sha256sum | cut -c1-64)" "$sum" "$1: the host reads what the guest wrote after a reload"
    rm -f "$disk.raw"
}

by pci-packed raw ring=packed,queues=2 ring=packed
by mmio-split raw transport=mmio transport=mmio
by mmio-packed raw transport=mmio,ring=packed,queues=2 transport=mmio,ring=packed
