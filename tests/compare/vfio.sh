#!/bin/sh
# A report, not a test: one NVMe function by mvm's vfio, by QEMU's vfio-pci and by the lab host's own
# driver, the same fio jobs in turn; exits to user space for a request; how long mapping RAM takes.
#
#     tests/lab/run tests/compare/vfio.sh
#
# lab: device=nvme mem=5120 timeout=1800
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
seconds=8
modprobe -a vfio-pci nvme
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
pci=/sys/bus/pci/devices/$nvme

to() {
    echo "$1" >"$pci/driver_override"
    [ ! -e "$pci/driver" ] || echo "$nvme" >"$pci/driver/unbind"
    echo "$nvme" >/sys/bus/pci/drivers_probe
}
# job DEPTH: what runs, on the host and in the guest alike; says "IOPS=… total=…"
job="fio --name=j --filename=/dev/nvme0n1 --rw=randread --bs=4k --ioengine=libaio --direct=1 --time_based --runtime=$seconds"
figures="sed -n 's/.*read: IOPS=\([^,]*\),.*/IOPS \1/p; s/.*issued rwts: total=\([0-9]*\),.*/requests \1/p'"
# Without double quotes: it goes through the kernel's command line.
guest="stty -echo; for d in 1 32; do echo ready; read go; $job --iodepth=\$d >/tmp/o; echo done; read go; $figures /tmp/o; done"

# exits PID: those to user space so far
exits() {
    cat /sys/kernel/debug/kvm/"$1"-*/mmio_exits /sys/kernel/debug/kvm/"$1"-*/io_exits | awk '{ n += $1 } END { print n }'
}

# reach NAME WORD N: until it has said the word so often. One program a look: what is measured shares the CPU.
reach() {
    while guest_alive "$1" && [ "$(grep -ca "^$2" "$LAB_TMP/$1.log")" -lt "$3" ]; do sleep 0.5; done
}

# by NAME COMMAND...: boots it and plays both depths
by() {
    name=$1 n=0
    shift
    guest_start "$name" 600 "$@"
    for depth in 1 32; do
        n=$((n + 1))
        reach "$name" ready $n
        vmm=$(pgrep -P "$(cat "$LAB_TMP/$name.pid")")
        before=$(exits "$vmm")
        guest_send "$name" 'go\n'
        sleep "$seconds"
        reach "$name" "done" $n
        after=$(exits "$vmm")
        guest_send "$name" 'go\n'
        reach "$name" requests $n
        diag "$name depth $depth: $(guest_text "$name" | grep '^IOPS' | tail -n 1), $(guest_text "$name" | grep '^requests' | tail -n 1 |
            awk -v x=$((after - before)) '{ printf "%d user exits for %d requests: %.4f each", x, $2, x / $2 }')"
    done
    guest_wait "$name" || diag "$(guest_text "$name" | tail -n 20)"
}

to nvme
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/nvme0n1 ] && break; sleep 0.5; done
for depth in 1 32; do
    $job --iodepth=$depth >"$LAB_TMP/host"
    diag "host's driver depth $depth: $(sh -c "$figures $LAB_TMP/host" | tr '\n' ' ')"
done
to vfio-pci
by mvm "$mvm" --memory=512M --blk=vfio:"$nvme" --append="quiet mvm.run=\"$guest\""
by qemu qemu-system-x86_64 -accel kvm -cpu host -M q35 -m 512 -nodefaults -display none -serial stdio -no-reboot \
    -device vfio-pci,host="$nvme" -kernel "$MVM_IMAGES/vmlinux" -initrd "$MVM_IMAGES/initramfs.cpio.gz" \
    -append "console=ttyS0 quiet mvm.run=\"$guest\""
for size in 1 2; do
    guest_start map 60 strace -f -T -e trace=ioctl -o "$LAB_TMP/trace" "$mvm" --memory=${size}G --blk=vfio:"$nvme"
    while guest_alive map && ! grep -q 'VFIO_IOMMU_MAP_DMA.*<' "$LAB_TMP/trace"; do sleep 0.2; done
    sleep 2
    guest_kill map
    diag "mapping $size GiB: $(sed -n 's/.*VFIO_IOMMU_MAP_DMA.*<\(.*\)>/\1 s/p' "$LAB_TMP/trace" | tr '\n' ' ')"
done
ok "measured"
