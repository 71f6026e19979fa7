#!/bin/sh
# A host whose IOMMU does not remap interrupts: a guest could forge the host's, so nothing is passed through.
# lab: device=nvme append="intremap=off" timeout=200
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
out=$(timeout 60 "$mvm" --memory=128M --blk=vfio:"$nvme",auto-bind=on </dev/null 2>&1)
like "$? $out" "^1 mvm: --blk=vfio:$nvme.*no interrupt remapping.*intremap=off" "refused: without interrupt remapping"
is "$(cat /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts)" N "mvm leaves the unsafe option off"
is "$(basename "$(readlink "/sys/bus/pci/devices/$nvme/driver")")" nvme "and gives the function back"
