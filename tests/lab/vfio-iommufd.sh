#!/bin/sh
# The same NVMe function by iommufd and by groups, on a kernel that has both; mvm binds it itself and
# gives it back.
# lab: device=nvme modules=iommufd timeout=900
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
modprobe nvme
check "a kernel with iommufd" lab_modules iommufd
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
pci=/sys/bus/pci/devices/$nvme

# by HOW: a guest writes, the host reads
by() {
    how=$1
    # shellcheck disable=SC2016 # the guest expands these
    work='fio --name=v --filename=/dev/nvme0n1 --size=1M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1
        --verify=crc32c --do_verify=1 >/tmp/o 2>&1 && echo verify good;
        dd if=/dev/urandom of=/tmp/r bs=64k count=4; dd if=/tmp/r of=/dev/nvme0n1 bs=64k seek=64 oflag=direct conv=fsync;
        echo sum $(sha256sum </tmp/r | cut -c1-64); read go'
    guest_start "$how" 300 "$mvm" --memory=256M --blk=vfio:"$nvme",iommu="$how",auto-bind=on \
        --append="quiet mvm.run=\"$(one_line "$work")\""
    guest_expect "$how" '^sum ' 250 || diag "$(guest_text "$how" | tail -n 20)"
    files=$(ls -l /proc/"$(pgrep -P "$(cat "$LAB_TMP/$how.pid")")"/fd | sed -n 's/.* -> //p' | grep -E '^/dev/(iommu|vfio)' | sort -u | tr '\n' ' ')
    like "$files" "$2" "$how: by the files that it should"
    ! guest_alive "$how" || guest_send "$how" 'go\n'
    guest_wait "$how"
    is "$?" 0 "$how: the guest powers off"
    like "$(guest_text "$how")" '^verify good' "$how: fio finds all it wrote"
    is "$(basename "$(readlink "$pci/driver")")" nvme "$how: the host's driver has it again"
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/nvme0n1 ] && break; sleep 0.5; done
    is "$(dd if=/dev/nvme0n1 bs=64k skip=64 count=4 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)" \
        "$(guest_text "$how" | sed -n 's/^sum //p')" "$how: and reads what the guest wrote"
}
by auto '^/dev/iommu /dev/vfio/devices/vfio'
by group '^/dev/vfio/[0-9]+ /dev/vfio/vfio'
