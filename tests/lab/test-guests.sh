#!/bin/sh
# The tiny guests once more, on the lab's KVM: hardware virtualization as a real host has it. Only here do
# interrupts in service, end of interrupt and priorities show; the KVM of a machine without vmx or svm may
# leave them out.
# Not here yet: the runs on split and user chips, back-end processes and emulated cards and disks, which have not
# been through this KVM on a quiet machine; nor the UART on sockets and ptys, whose last line is cut here.
# lab: timeout=1500

echo "TAP version 13"
exec "$TOP/tests/guest/run" --mvm "$MVM_BUILD/mvm" --jobs 1 --slow 6 \
    --without='^irqcost|^uart --console|--irqchip=|vhost:|--(net|blk)=emulated' guests
