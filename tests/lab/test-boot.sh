#!/bin/sh
# Boots Debian's kernel by every protocol, with 1 and with 4 vCPUs, and ends it: power off, reboot with
# --no-reboot, panic, a command's status.
# lab: timeout=600
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
initrd=$MVM_IMAGES/initramfs.cpio.gz
gzip -1 <"$MVM_IMAGES/vmlinux" >"$LAB_TMP/vmlinux.gz"

# boot NAME KERNEL PROTOCOL CPUS [MEMORY [MORE]]: the guest sees its CPUs, does more, and mvm ends with 0
boot() {
    guest_run "$1" 180 "$mvm" --kernel="$2" --initrd="$initrd" --boot="$3" --cpus="$4" --memory="${5:-512M}" \
        --append="quiet mvm.run=\"uname -r; echo cpus \$(nproc); ${6:+$6; }false\""
    is "$?" 0 "$1: mvm ends with 0 when the guest powers off"
    like "$(guest_text "$1")" "^cpus $4\$" "$1: the guest sees $4 CPUs"
    is "$(guest_status "$1")" 1 "$1: the command's status is told"
}

for cpus in 1 4; do
    boot "bzimage-$cpus" "$MVM_IMAGES/bzImage" auto "$cpus"
    boot "vmlinux-linux64-$cpus" "$MVM_IMAGES/vmlinux" linux64 "$cpus"
done
boot vmlinux-pvh-1 "$MVM_IMAGES/vmlinux" pvh 1
boot vmlinux-gz "$LAB_TMP/vmlinux.gz" auto 2
boot dmesg "$MVM_IMAGES/vmlinux" pvh 4 3200M dmesg

# What a kernel says of the machine: no complaint that firmware tables or CPUs are wrong.
like "$(guest_text dmesg)" 'smpboot: Total of 4 processors activated' "4 CPUs are brought up"
like "$(guest_text dmesg)" 'kvm-clock' "the guest's clock is kvm-clock"
like "$(guest_text dmesg)" 'ECAM.*0xe0000000' "PCI configuration space is memory-mapped"
like "$(guest_text dmesg)" 'CPU topo: Max. logical packages: *1$' "the CPUs are one package"
# Not counted: XSAVE's size, which any guest finds wrong here, because TCG does not tell KVM of its XSETBV.
bad='\[Firmware Bug\]|ACPI (Error|BIOS Error|Warning)|BUG:|WARNING:|lost an interrupt|TSC.*unstable'
is "$(guest_text dmesg | grep -E "$bad" | grep -v fpu__init_system_xstate)" "" \
    "the kernel finds nothing wrong with the machine"
like "$(guest_text dmesg)" 'Memory: [0-9]+K/327[0-9]{4}K available' "RAM above the PCI hole is there"

guest_run no-reboot 180 "$mvm" --memory=512M --no-reboot --append='quiet mvm.run="reboot -f"'
is "$?" 0 "--no-reboot: mvm ends with 0"
is "$(guest_text no-reboot | grep -c 'guest: Linux')" 1 "--no-reboot: the guest came up once"

guest_run panic 180 "$mvm" --memory=512M --append='quiet mvm.run="echo c >/proc/sysrq-trigger; sleep 100"'
is "$?" 3 "panic: mvm ends with 3"
like "$(guest_text panic)" 'mvm: the guest panicked' "panic: mvm says so"
