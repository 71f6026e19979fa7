#!/bin/sh
# The disks of `make compare`, with functions to pass through: see matrix.sh.
# lab: device=nvme,nvme-sriov mem=4096 timeout=2400
. "$LAB_DIR/lib/lab.sh"
. "$TOP/tests/compare/matrix.sh"

matrix blk
