#!/bin/sh
# The network cards of `make compare`: see matrix.sh.
# lab: device=igb mem=4096 timeout=2400
. "$LAB_DIR/lib/lab.sh"
. "$TOP/tests/compare/matrix.sh"

matrix net
