#!/bin/sh
# virtio-blk and virtio-rng with Linux's drivers, by each transport and each ring, all in one guest: data checked
# in the guest and from the host, the driver taken away and given back in between, once under load.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
# What the guest does with each disk comes on a disk: it is too long for a command line.
script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
disks=$(cd /sys/block && echo vd[b-z])
named() { # what the flag calls the disk
    cat /sys/block/$1/serial
}
for d in $disks; do
    at=$(readlink -f /sys/block/$d/device/..)
    echo "$(named $d) by $(basename $(readlink -f "$at/subsystem")), queues $(ls /sys/block/$d/mq | wc -l)"
    set -- "$@" --name=$(named $d) --filename=/dev/$d
done
if fio --size=2M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c --minimal "$@" >/tmp/fio 2>&1; then
    for d in $disks; do echo "$(named $d) fio verified"; done
else
    tail -n 20 /tmp/fio
fi
# Under load the driver cannot be unloaded, but each device can be taken from it.
for d in $disks; do
    dd if=/dev/$d of=/dev/null bs=64k iflag=direct 2>/dev/null &
    virtio=$(basename $(readlink -f /sys/block/$d/device))
    echo $virtio >/sys/bus/virtio/drivers/virtio_blk/unbind && echo $virtio >/sys/bus/virtio/drivers/virtio_blk/bind &&
        echo "$(named $d) is back"
done
wait
modprobe -r virtio_blk; echo removed $?
modprobe virtio_blk
disks=$(cd /sys/block && echo vd[b-z])
dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null
echo sum $(sha256sum </tmp/r | cut -c1-64)
for d in $disks; do
    while [ ! -b /dev/$d ]; do sleep 0.1; done
    dd if=/tmp/r bs=64k of=/dev/$d oflag=direct conv=fsync 2>/dev/null
    [ "$(dd if=/dev/$d bs=64k count=32 iflag=direct 2>/dev/null | sha256sum)" = "$(sha256sum </tmp/r)" ] &&
        echo "$(named $d) reads back"
done
for rng in $(cat /sys/class/misc/hw_random/rng_available); do
    echo "$rng" >/sys/class/misc/hw_random/rng_current
    echo "entropy $rng $(dd if=/dev/hwrng bs=512 count=2 2>/dev/null | wc -c)"
done
echo all done
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"

set --
# disk NAME FORMAT KEYS: one more disk for the guest, NAME.img
names=
disk() {
    qemu-img create -q -f "$2" "$LAB_TMP/$1.img" 16M
    names="$names $1:$2"
    disk_flag="--blk=virtio:$LAB_TMP/$1.img,serial=$1,format=$2$3"
}
disk pci-split raw ,cache=direct && set -- "$@" "$disk_flag"
disk pci-packed raw ,ring=packed,queues=2 && set -- "$@" "$disk_flag"
disk mmio-split raw ,transport=mmio,engine=threads && set -- "$@" "$disk_flag"
disk mmio-packed raw ,transport=mmio,ring=packed,queues=2 && set -- "$@" "$disk_flag"
disk pci-qcow2 qcow2 ,ring=packed,in-order=on && set -- "$@" "$disk_flag"
disk pci-bare raw ,event-idx=off,indirect=off,queue-size=64 && set -- "$@" "$disk_flag"
for rng in ring=split ring=packed transport=mmio transport=mmio,ring=packed; do
    set -- "$@" "--rng=virtio,$rng"
done

guest_run blk 400 "$mvm" --memory=512M --cpus=2 --blk=virtio:"$script",ro=on "$@" \
    --append="quiet mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""
is "$?" 0 "the guest powers off"
text=$(guest_text blk)
sum=$(echo "$text" | sed -n 's/^sum //p')
for name in $names; do
    image=$LAB_TMP/${name%%:*}.img
    like "$text" "^${name%%:*} fio verified\$" "${name%%:*}: fio finds all it wrote"
    like "$text" "^${name%%:*} is back\$" "${name%%:*}: unbound and bound again under load"
    like "$text" "^${name%%:*} reads back\$" "${name%%:*}: works with the driver loaded again"
    qemu-img convert -f "${name#*:}" -O raw "$image" "$LAB_TMP/raw"
    is "$(head -c 2m "$LAB_TMP/raw" | sha256sum | cut -c1-64)" "$sum" "${name%%:*}: the host reads what the guest wrote"
    [ "${name#*:}" != qcow2 ] || check "${name%%:*}: qemu-img finds the image whole" qemu-img check -q -f qcow2 "$image"
done
is "$(echo "$text" | grep -c ' by virtio-pci\| by pci\| by platform')" 6 "each disk is on its bus"
is "$(echo "$text" | grep -c 'by platform')" 2 "two of them by MMIO"
like "$text" '^pci-packed by .*, queues 2$' "two queues are two queues"
like "$text" '^removed 0$' "the driver can be removed"
is "$(echo "$text" | grep -c '^entropy virtio_rng.* 1024$')" 4 "entropy is read from each of four"
like "$text" '^all done$' "the guest ran to the end"
