#!/bin/sh
# An NVMe function by iommufd, on a kernel that has it: a guest's data, and mvm binds the function and gives it
# back; then by groups on the same kernel, because it is told so.
# lab: device=nvme modules=iommufd timeout=300
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
modprobe nvme
check "a kernel with iommufd" lab_modules iommufd
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
pci=/sys/bus/pci/devices/$nvme

# holds NAME: the VFIO files that a machine has open
holds() {
    vmm=$(pgrep -P "$(cat "$LAB_TMP/$1.pid")") || return
    find "/proc/$vmm/fd" -lname '/dev/*' -printf '%l\n' | grep -E '^/dev/(iommu|vfio/)' | sort -u | tr '\n' ' '
}
# until SECONDS COMMAND...: it succeeds within the time
until_true() {
    left=$(($1 * 5))
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}
has_disk() {
    disk=$(cd /sys/block && ls -d nvme*n1 2>/dev/null) && [ -b "/dev/$disk" ]
}
given_back() {
    [ "$(basename "$(readlink "$pci/driver")")" = nvme ] && has_disk
}

# shellcheck disable=SC2016 # the guest expands these
work='fio --name=v --filename=/dev/nvme0n1 --size=1M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1
    --verify=crc32c --do_verify=1 >/tmp/o 2>&1 && echo verify good;
    dd if=/dev/urandom of=/tmp/r bs=64k count=4 2>/dev/null; dd if=/tmp/r of=/dev/nvme0n1 bs=64k seek=64 oflag=direct conv=fsync
    2>/dev/null; echo net $(basename $(readlink /sys/class/net/eth0/device/driver)); echo sum $(sha256sum </tmp/r | cut -c1-64); read go'
guest_start auto 300 "$mvm" --memory=256M --net=virtio --blk=vfio:"$nvme",auto-bind=on --append="quiet mvm.run=\"$(one_line "$work")\""
guest_expect auto '^sum ' 250 || diag "$(guest_text auto | tail -n 20)"
like "$(holds auto)" '^/dev/iommu /dev/vfio/devices/vfio0 $' "by iommufd where the kernel has it"
out=$(timeout 60 "$mvm" --memory=128M --blk=vfio:"$nvme" </dev/null 2>&1)
like "$(one_line "$out")" "in use" "refused: a second guest"
! guest_alive auto || guest_send auto 'go\n'
guest_wait auto
is "$?" 0 "the guest powers off"
guest_said auto '^net virtio_net' "a virtio NIC beside it"
guest_said auto '^verify good' "fio finds all it wrote"
check "the host's driver has it again" until_true 30 given_back
disk=$(cd /sys/block && echo nvme*n1)
is "$(dd if="/dev/$disk" bs=64k skip=64 count=4 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)" \
    "$(guest_text auto | sed -n 's/^sum //p')" "and the host reads what the guest wrote"

has_group() {
    holds group | grep -q '^/dev/vfio/[0-9]'
}
guest_start group 60 "$mvm" --memory=256M --blk=vfio:"$nvme",iommu=group,auto-bind=on
check "iommu=group: a machine starts" until_true 100 has_group
like "$(holds group)" '^/dev/vfio/[0-9]+ /dev/vfio/vfio $' "by the group and its container"
guest_kill group
check "and gives it back" until_true 30 given_back
