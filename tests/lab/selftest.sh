#!/bin/sh
# Tests the lab itself and the default guest, without mvm: what a lab script relies on is there, and
# QEMU in the lab boots the guest's images on the lab's KVM.
# lab: device=nvme,e1000e,disk:64M timeout=300
. "$LAB_DIR/lib/lab.sh"

check "/dev/kvm is there" test -c /dev/kvm
check "the CPU has svm" grep -qw svm /proc/cpuinfo
check "a tap can be made" ip tuntap add dev tapx mode tap
ip link del tapx 2>/dev/null
check "/dev/vhost-net opens" sh -c ': <>/dev/vhost-net'
check "vhost_net is loaded by that" test -d /sys/module/vhost_net
check "vfio-pci loads" modprobe vfio-pci
check "there are IOMMU groups" test -d /sys/kernel/iommu_groups/1
check "the root can be written to" sh -c 'echo x >/etc/lab-selftest && rm /etc/lab-selftest'
id -u >"$LAB_OUT/selftest"
is "$(cat "$LAB_OUT/selftest")" 0 "files can be handed out"
like "$(lspci -n)" '8086:10d3' "the e1000e is there"
check "the NVMe namespace is there" test -b /dev/nvme0n1

began=$(date +%s.%N)
guest_run guest 240 qemu-system-x86_64 -accel kvm -cpu host -M microvm,rtc=on -m 512 -nodefaults -no-user-config \
    -display none -no-reboot -serial stdio -kernel "$MVM_IMAGES/vmlinux" -initrd "$MVM_IMAGES/initramfs.cpio.gz" \
    -append 'console=ttyS0 quiet panic=-1 reboot=t mvm.run="uname -r; tty; false"'
is "$?" 0 "QEMU ends with 0 when the guest powers off"
diag "guest on microvm: $(echo "$(date +%s.%N) $began" | awk '{ printf "%.1f s", $1 - $2 }')"
like "$(guest_text guest)" "^$(uname -r | sed 's/[.+]/[&]/g')\$" "the guest ran its command"
is "$(guest_status guest)" 1 "the guest told the command's status"
