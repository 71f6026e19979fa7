#!/bin/sh
# The disks of `make compare`, with functions to pass through, and the serial ports, with a mediated device: see
# matrix.sh. igb is there for the newer emulator that comes with it: the VFs of QEMU 7.2's NVMe never get ready.
# lab: device=nvme,nvme-sriov,igb modules=mtty? mem=4096 timeout=2400
. "$LAB_DIR/lib/lab.sh"
. "$TOP/tests/compare/matrix.sh"

lab_modules mtty || diag "without a mediated device"
matrix blk --class=console
