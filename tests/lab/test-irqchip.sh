#!/bin/sh
# Debian's kernel on the interrupt chips that are not KVM's (--irqchip=split, user), with 1 and 4 vCPUs: disks
# and network cards, virtio and emulated, over MSI-X, PCI's INTx and ISA lines, timers, IPIs and NMIs, CPUs taken offline and back,
# a reboot in place, and the end. What an interrupt costs, the tiny guest irqcost reports on
# a host of its own: with one CPU for two that spin it would say nothing here.
# lab: timeout=900
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm

# What the guest does comes on its second disk, whose last sector remembers that it was here.
script=$LAB_TMP/script
cat >"$script" <<'GUEST'
here=$(dd if=/dev/vdb bs=512 skip=127 count=1 2>/dev/null | tr -dc x | wc -c)
echo boot number $here
[ $here -eq 0 ] || { echo after reboot cpus $(nproc); poweroff -f; }
printf x | dd of=/dev/vdb bs=1 seek=$((127 * 512)) conv=fsync 2>/dev/null
cost() { echo cost $1 at $(cut -d. -f1 /proc/uptime) s; }
cost start
echo cpus $(nproc)
waitnet eth0 30 >/dev/null; waitnet eth1 30 >/dev/null
# All at once: each start of fio costs a second here, and interrupts that meet are worth more than those that do not.
for disk in pci:vda mmio:vdc ide:sda nvme:nvme0n1; do set -- "$@" --name=${disk%:*} --filename=/dev/${disk#*:}; done
fio --size=512K --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c --minimal "$@" >/tmp/fio 2>&1 &&
    echo verified $(cut -d';' -f3,5 /tmp/fio | sort | tr '\n' ' ') || cat /tmp/fio
cost disks
ping -q -I eth1 -c 10 -i 0.1 10.0.2.2 | sed -n 's/.* \([0-9]*\)% packet loss.*/e1000 lost \1/p'
ping -q -c 10 -i 0.1 10.0.2.2 | sed -n 's/.* \([0-9]*\)% packet loss.*/ping lost \1/p; s/.*avg.* = [0-9.]*.\([0-9.]*\).*/cost ping \1 ms/p'
cost pings
for cpu in /sys/devices/system/cpu/cpu[1-9]; do
    [ -e $cpu ] || continue
    echo 0 >$cpu/online && echo 1 >$cpu/online || echo trouble $cpu
done
echo cpus again $(nproc)
cost offline
echo l >/proc/sysrq-trigger
sleep 1
sed 's/^/irq: /' /proc/interrupts
dmesg | grep -E 'BUG|WARNING|lockup|LOCKUP|detected stall|APIC error|nobody cared|lost an interrupt|unstable' | grep -v xstate | sed 's/^/bad: /'
grep -q again /proc/cmdline && reboot -f
GUEST

# irqs NAMES: the guest's counts in these lines of /proc/interrupts, added up for each CPU
irqs() {
    printf '%s\n' "$text" | awk -v names=" $1 " '$1 == "irq:" && index(names, " " substr($2, 1, length($2) - 1) " ") {
        for (i = 3; i <= NF && $i ~ /^[0-9]+$/; i++) n[i] += $i; if (i > last) last = i }
        END { for (i = 3; i < last; i++) printf "%s%d", (i > 3 ? " " : ""), n[i] }'
}
# all_counted COUNTS N: N of them, none 0
all_counted() {
    # shellcheck disable=SC2086 # a list
    set -- "$2" $1
    wanted=$1
    shift
    [ $# -eq "$wanted" ] && for n in "$@"; do [ "$n" -gt 0 ] || return 1; done
}

# on CHIP CPUS APPEND LINE: everything on these chips, where /proc/interrupts has this LINE for the disk; with "again" in
# APPEND it reboots and comes up once more. (Several CPUs reboot on these chips in the tiny guest "reset".)
on() {
    name=$1-$2
    for disk in pci mmio ide nvme; do truncate -s 2M "$LAB_TMP/$name.$disk"; done
    cp "$script" "$LAB_TMP/$name.script"
    truncate -s 64K "$LAB_TMP/$name.script"
    guest_run "$name" 300 "$mvm" --irqchip="$1" --cpus="$2" --memory=512M \
        --blk=virtio:"$LAB_TMP/$name.pci" --blk=virtio:"$LAB_TMP/$name.script" \
        --blk=virtio:"$LAB_TMP/$name.mmio",transport=mmio --net=virtio:user --rng=virtio \
        --blk=emulated:"$LAB_TMP/$name.ide" --blk=emulated:"$LAB_TMP/$name.nvme",hw=nvme --net=emulated:user \
        --append="quiet $3 mvm.run=\"head -c $(wc -c <"$script") /dev/vdb >/tmp/s; sh /tmp/s\""
    is "$?" 0 "$name: mvm ends with 0"
    text=$(guest_text "$name")
    case $3 in
    *again*) like "$text" "^after reboot cpus $2\$" "$name: it reboots in place, and comes up with all CPUs" ;;
    esac
    # What took long, should it: the guest says how long it was up at each step.
    diag "$(printf '%s\n' "$text" | sed -n "s/^cost /$name: /p")"
    like "$text" "^cpus $2\$" "$name: the guest has its CPUs"
    # fio names each job, with its error.
    for disk in pci mmio ide nvme; do like "$text" "^verified .*$disk;0( |\$)" "$name: a disk keeps what is written: $disk"; done
    like "$text" '^ping lost 0$' "$name: no packet is lost"
    like "$text" '^e1000 lost 0$' "$name: nor by the e1000"
    like "$text" "^cpus again $2\$" "$name: CPUs go offline and come back"
    check "$name: each CPU has timer interrupts" all_counted "$(irqs LOC)" "$2"
    check "$name: NMIs reach each CPU but the sender" test "$(irqs NMI | tr -s ' ' '\n' | grep -c '[1-9]')" -ge $(($2 - 1))
    [ "$2" -eq 1 ] || check "$name: IPIs reach each CPU" all_counted "$(irqs "RES CAL TLB")" "$2"
    is "$(irqs ERR) $(irqs MIS)" "0 0" "$name: no APIC errors"
    like "$text" "^irq: .* $4" "$name: the PCI disk interrupts as it should"
    is "$(printf '%s\n' "$text" | grep '^bad: ')" "" "$name: the kernel complains of nothing"
}

on split 4 "" 'PCI-MSIX.*virtio0-req'
on user 4 "" 'PCI-MSIX.*virtio0-req'
on split 1 "pci=nomsi again" 'IO-APIC.*fasteoi.*virtio0'
on user 1 "pci=nomsi again" 'IO-APIC.*fasteoi.*virtio0'
