#!/bin/sh
# Hardware given to a guest whole: an NVMe and an e1000e function of the lab's host, by Linux's own
# drivers in the guest. MSI-X, MSI and INTx; a reboot, driver reloads and resets under load; mvm killed
# in the middle; an expansion ROM; a function taken back while the guest runs; refusals.
# lab: device=nvme,e1000e-wire timeout=600
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
modprobe -a vfio-pci nvme e1000e i2c-i801
pci=/sys/bus/pci/devices
nvme=$(lspci -D -d ::0108 | cut -d' ' -f1)
nic=$(lspci -D -d 8086:10d3 | cut -d' ' -f1)
# The lab's own card on the wire of the one that goes to the guest
peer=$(basename "$(dirname "$(grep -l '^52:54:00:6c:03:' /sys/class/net/*/address)")")
ip addr add 10.0.2.2/24 dev "$peer"
ip link set "$peer" up
for n in 1 2; do iperf3 -s -D -p 520$n; done

# to DRIVER FUNCTION...: give them to the driver; "" means to none
to() {
    driver=$1
    shift
    for f in "$@"; do
        echo "$driver" >"$pci/$f/driver_override"
        [ ! -e "$pci/$f/driver" ] || echo "$f" >"$pci/$f/driver/unbind"
        [ -z "$driver" ] || echo "$f" >/sys/bus/pci/drivers_probe
    done
}

# refused REGEX TEXT ARGUMENTS...: mvm says so and ends
refused() {
    regex=$1 text=$2
    shift 2
    out=$(timeout 60 "$mvm" --memory=128M "$@" </dev/null 2>&1)
    like "$? $(one_line "$out")" "^[12] mvm: --[^ ]*: .*$regex" "$text"
}

refused 'no PCI function 0000:7f:00.0.*mvm vfio list' "refused: a function that is not there" --blk=vfio:7f:00.0
refused "driver nvme holds it.*mvm vfio bind $nvme" "refused: one that the host uses" --blk=vfio:"$nvme"
to "" "$nvme"
refused "no driver holds it.*mvm vfio bind $nvme" "refused: one that nobody has given away" --blk=vfio:"$nvme"
to vfio-pci "$nvme" "$nic"
refused "is no network controller.*--blk=vfio:$nvme" "refused: one of another class" --net=vfio:"$nvme"
[ -e /dev/iommu ] || refused "use iommu=group" "refused: iommufd that the kernel has not" --blk=vfio:"$nvme",iommu=iommufd
lpc=0000:00:1f
to vfio-pci $lpc.2
refused "group [0-9]* is not viable: it also holds $lpc.3 \(i801_smbus\)" "refused: a group that is not the guest's alone" \
    --blk=vfio:$lpc.2
to ahci $lpc.2
group=/dev/vfio/$(basename "$(readlink "$pci/$nvme/iommu_group")")
chmod 666 /dev/kvm
# This tree may be where only root may go; in the lab, where nothing stays, others may, too.
for dir in "$MVM_BUILD" "$MVM_IMAGES"; do
    while [ "$dir" != / ]; do
        chmod o+x "$dir"
        dir=$(dirname "$dir")
    done
done
nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
out=$(nobody "$mvm" --memory=128M --blk=vfio:"$nvme" </dev/null 2>&1)
like "$out" "no permission to open $group;.*chown" "refused: without permission"
chown 65534 "$group"
out=$(nobody prlimit --memlock=8388608 "$mvm" --memory=128M --blk=vfio:"$nvme" </dev/null 2>&1)
like "$out" "RLIMIT_MEMLOCK.* is 8 MiB; raise it to 131072 KiB" "refused: too little locked memory, with the number"
chown 0 "$group"

check "the NVMe function has an expansion ROM" sh -c "echo 1 >$pci/$nvme/rom && cat $pci/$nvme/rom >$LAB_TMP/rom"
is "$(wc -c <"$LAB_TMP/rom")" 4096 "of 4 KiB"

# What the guests do comes on a disk.
script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
# irqs NAME TYPE: interrupts of these so far
irqs() { awk -v n="$1" -v t="$2" '$0 ~ t && $0 ~ n { for (i = 2; i <= 5 && $i ~ /^[0-9]+$/; i++) s += $i } END { print s + 0 }' /proc/interrupts; }
load() { fio --name=l --filename=/dev/nvme0n1 --offset=128M --size=64M --rw=randrw --bs=4k --iodepth=8 --ioengine=libaio \
    --direct=1 --time_based --runtime=600 >/dev/null 2>&1 & }
settle() { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "$@" && return; sleep 1; done; return 1; }
live() { [ "$(cat /sys/class/nvme/nvme0/state)" = live ]; }
disk() { dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null; }
verify() { fio --name=v --filename=/dev/nvme0n1 --offset=$1 --size=1M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio \
    --direct=1 --verify=crc32c --do_verify=1 >/tmp/fio 2>&1 && echo "verify $1 good" || cat /tmp/fio; }
pings() { bad=; for s in 0 56 512 1472 8000; do ping -q -c 1 -W 5 -s $s 10.0.2.2 >/dev/null || bad="$bad $s"; done; echo "$1 pings bad:$bad"; }
tcp() { timeout 90 iperf3 -f m -c 10.0.2.2 -t 2 $2 >/tmp/iperf 2>&1; sed -n "s/.* \([0-9.]*\) Mbits.sec.*receiver.*/speed $1 \1 Mbits/p" /tmp/iperf; }
dev=$(basename $(readlink -f /sys/class/nvme/nvme0/device))
nic=$(basename $(readlink -f /sys/class/net/eth0/device))
echo devices $dev $nic cpus $(nproc)
waitnet eth0 30 | sed 's/^/lease /'
mark=$(dd if=/dev/nvme0n1 bs=512 skip=400000 count=1 2>/dev/null | head -c 6)

first() {
    echo 1 >/sys/bus/pci/devices/$dev/rom
    echo rom $(sha256sum /sys/bus/pci/devices/$dev/rom | cut -c1-64)
    echo link $(cat /sys/class/net/eth0/address)
    echo express $(lspci -v -s $dev | grep -c 'Root Complex Integrated Endpoint') hidden $(lspci -vvv -s $nic | grep -c 'ATS\|ARI\|SR-IOV\|Resizable')
    verify 0
    dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null
    dd if=/tmp/r bs=64k of=/dev/nvme0n1 seek=1024 oflag=direct conv=fsync 2>/dev/null
    echo sum $(sha256sum </tmp/r | cut -c1-64)
    echo nvme msix $(irqs $dev MSIX) queues $(grep -c "nvme0q[1-9]" /proc/interrupts)
    pings msix
    echo nic msix $(irqs $nic MSIX)
    tcp out; tcp in -R
    iperf3 -c 10.0.2.2 -p 5202 -t 60 >/dev/null 2>&1 & load=$!; sleep 2
    echo card loaded $(pidof iperf3 | wc -w)
    for mode in 1 0; do # MSI, then the line
        # The driver tries MSI for a tenth of a second, which is short on a busy machine: again, then.
        for i in 1 2 3 4 5 6 7 8; do
            modprobe -r e1000e; modprobe e1000e IntMode=$mode
            ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
            [ $mode = 0 ] || ! grep -q 'IO-APIC.*eth0' /proc/interrupts || continue
            break
        done
        settle ping -q -c 1 -W 1 10.0.2.2 >/dev/null
        kill $load 2>/dev/null
        pings mode$mode
        echo "nic mode$mode $(irqs eth0 'PCI-MSI-|fasteoi') by $(awk '/eth0/ { print $6, $7 }' /proc/interrupts) tries $i"
    done
    dmesg | grep -i 'e1000e.*msi' | tail -n 3
    load
    sleep 1
    echo 1 >/sys/class/nvme/nvme0/reset_controller; settle live && disk && echo controller reset good
    echo 1 >/sys/bus/pci/devices/$dev/reset; settle live && disk && echo function reset good
    echo jobs without an error $(pidof fio | wc -w)
    echo $dev >/sys/bus/pci/drivers/nvme/unbind
    wait
    echo $dev >/sys/bus/pci/drivers/nvme/bind; settle disk && verify 4M && echo driver back
    printf second | dd of=/dev/nvme0n1 bs=512 seek=400000 conv=notrunc,sync,fsync oflag=direct 2>/dev/null
    echo rebooting
    reboot -f
}
again() {
    printf third- | dd of=/dev/nvme0n1 bs=512 seek=400000 conv=notrunc,sync,fsync oflag=direct 2>/dev/null
    verify 12M
    pings reboot
    load
    sleep 1
    echo under load
    sleep 600
}
third() {
    verify 16M
    echo nvme line $(awk '/IO-APIC/ && /nvme0q/ { print $2 }' /proc/interrupts)
    pings nomsi
    echo take the nic
    for i in $(seq 100); do [ -e /sys/class/net/eth0 ] && [ "$(setpci -s $nic 0.w)" != ffff ] || break; sleep 0.2; done
    echo nic id now $(setpci -s $nic 0.w)
    disk && verify 20M && echo lives on
}
case $mark in second) again ;; third-) third ;; *) first ;; esac
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"
chip=
guest() { # NAME CPUS WORDS...
    name=$1 cpus=$2
    shift 2
    # shellcheck disable=SC2086 # an option or none
    guest_start "$name" 1200 "$mvm" --memory=384M --cpus="$cpus" $chip --blk=vfio:"$nvme" --net=vfio:"${nic#0000:}" \
        --blk=virtio:"$script",ro=on --append="quiet mvm.ip=eth0=10.0.2.15/24 $* mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""
}

# ---- four vCPUs, all interrupts, resets, and a reboot under mvm's eyes ----
dd if=/dev/zero of="$LAB_TMP/zero" bs=512 count=1 2>/dev/null
guest four 4
if ! guest_expect four '^rebooting' 900; then
    not_ok "the first guest gets as far as its reboot"
    diag "$(guest_text four | tail -n 40)"
fi
guest_said four '^devices 0000:00:01.0 0000:00:0[0-9].0 cpus 4' "four vCPUs see both functions"
guest_said four '^lease 10.0.2.15' "the NIC has its address"
guest_said four '^link 52:54:00:6c:01' "the NIC keeps its address"
guest_said four '^express 1 hidden 0' "shown as integrated endpoint, what is the host's hidden"
is "$(guest_text four | sed -n 's/^rom //p')" "$(sha256sum <"$LAB_TMP/rom" | cut -c1-64)" "the expansion ROM is the hardware's"
guest_said four '^verify 0 good' "fio finds all it wrote"
guest_said four '^nvme msix [1-9][0-9]* queues 4' "NVMe: MSI-X, a queue a vCPU"
guest_said four '^msix pings bad:$' "e1000e: pings of all sizes by MSI-X"
for way in out in; do guest_said four "^speed $way [0-9.]*[1-9][0-9.]* Mbits" "e1000e: TCP, $way"; done
diag "$(guest_text four | grep '^speed ')"
guest_said four '^card loaded 1' "e1000e: its driver goes and comes back under load"
guest_said four '^mode1 pings bad:$' "e1000e: by MSI"
guest_said four '^mode0 pings bad:$' "e1000e: by its line"
if ! guest_text four | grep -q '^nic mode1 .* by PCI-MSI-' && guest_text four | grep -q 'MSI interrupt test failed'; then
    skip "e1000e: messages came" "its driver gives a message a tenth of a second, too little here, and took the line"
else
    guest_said four '^nic mode1 [1-9][0-9]* by PCI-MSI-' "e1000e: messages came"
fi
guest_said four '^nic mode0 [1-9][0-9]* by IO-APIC .*fasteoi' "e1000e: line interrupts came"
guest_said four '^controller reset good' "NVMe: controller reset under load"
guest_said four '^function reset good' "NVMe: function level reset under load"
guest_said four '^jobs without an error [1-9]' "NVMe: the load saw neither reset"
guest_said four '^driver back' "NVMe: driver taken away under load and given back"
if guest_expect four '^under load' 500; then
    guest_said four '^verify 12M good' "after a reboot: NVMe works"
    guest_said four '^reboot pings bad:$' "after a reboot: the NIC works"
    refused "in use" "refused: a function that another guest has" --blk=vfio:"$nvme"
    kill -9 "$(pgrep -P "$(cat "$LAB_TMP/four.pid")" mvm)"
else
    not_ok "after a reboot: the guest gets under load"
    diag "$(guest_text four | tail -n 40)"
    kill "$(cat "$LAB_TMP/four.pid")"
fi
guest_wait four
is "$(guest_text four | sed -n 's/^sum //p' | wc -c)" 65 "the guest told its sum"

# ---- killed in the middle: the host can use the disk, and another guest ----
to nvme "$nvme"
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/nvme0n1 ] && break; sleep 0.5; done
is "$(dd if=/dev/nvme0n1 bs=64k skip=1024 count=32 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)" \
    "$(guest_text four | sed -n 's/^sum //p')" "after SIGKILL: the host reads what the guest wrote"
to vfio-pci "$nvme"
chip=--irqchip=split # the lines by mvm's own I/O APIC
guest one 1 pci=nomsi
if guest_expect one '^take the nic' 700; then
    guest_said one '^verify 16M good' "one vCPU, no messages: fio finds all it wrote"
    guest_said one '^nvme line [1-9]' "one vCPU: by the line"
    guest_said one '^nomsi pings bad:$' "one vCPU: both lines at once"
    check "the host takes the NIC back while the guest runs" timeout 60 sh -c "echo $nic >$pci/$nic/driver/unbind"
else
    not_ok "one vCPU: the guest gets to its end"
    diag "$(guest_text one | tail -n 40)"
fi
guest_wait one
is "$?" 0 "the guest powers off"
guest_said one 'takes 0000:[0-9a-f:.]* back' "the user is told of the NIC that went"
guest_said one '^nic id now ffff' "the guest sees an empty slot"
guest_said one '^lives on' "the guest lives on without it"
diag "$(guest_text one | grep '^mvm:' | head -n 5)"
