#!/bin/sh
# The network cards of `make compare`: see matrix.sh.
# lab: device=igb,e1000e-wire mem=4096 timeout=2400
. "$LAB_DIR/lib/lab.sh"
. "$TOP/tests/compare/matrix.sh"

# The lab's own card on the wire of the e1000e
modprobe -q virtio_net
wire=$(grep -l '^52:54:00:6c:03:' /sys/class/net/*/address)
wire=${wire%/address}
export WIRE="${wire##*/}"
matrix net --workload=pingpong --workload=tcp-out --workload=udp-out
