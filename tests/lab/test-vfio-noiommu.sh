#!/bin/sh
# A host without what newer ones have. Without an IOMMU nothing is passed through, and mvm says what is missing; without
# XSAVE guests run all the same.
# lab: device=nvme append="intel_iommu=off noxsave" timeout=200
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
out=$(timeout 60 "$mvm" --memory=128M --blk=vfio:"$nvme",auto-bind=on </dev/null 2>&1)
like "$? $out" "^1 mvm: --blk=vfio:$nvme.*no IOMMU .*intel_iommu=on" "refused: a function without an IOMMU"
out=$(timeout 60 "$mvm" --memory=128M --blk=vfio:"$nvme" </dev/null 2>&1)
like "$? $out" "^1 mvm: --blk=vfio:$nvme.*no IOMMU keeps its DMA .*intel_iommu=on" "with the driver left to the user, too"
out=$("$mvm" vfio bind "$nvme" 2>&1)
like "$? $out" "^1 mvm: .*no IOMMU" "mvm vfio bind: neither"
is "$(basename "$(readlink "/sys/bus/pci/devices/$nvme/driver")")" nvme "and its driver keeps it"

check "XSAVE is what this host has not" sh -c '! grep -qw xsave /proc/cpuinfo'
out=$(timeout 60 "$mvm" --memory=64M --kernel="$MVM_BUILD/tests/guest/shutdown.elf" </dev/null 2>&1)
is "$?" 0 "a guest starts, and ends" || diag "$out"
