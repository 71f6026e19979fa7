#!/bin/sh
# SR-IOV functions and a mediated device in guests: two guests at the same time, each with a VF of one igb and a
# VF of one NVMe controller, and two serial ports of an mtty. One sends DMA outside its RAM.
# lab: device=nvme-sriov,igb modules=mtty timeout=600
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
modprobe -a vfio-pci nvme igb
igb=$(lspci -D -n -d 8086:10c9 | sed 's/ .*//')
pf_if=$(ls "/sys/bus/pci/devices/$igb/net")
ip link set "$pf_if" up
ip addr add 10.0.2.99/24 dev "$pf_if"
for n in 1 4; do iperf3 -s -D -p 520$n; done
nvme=$(lspci -D -n -d ::0108 | sed -n '1s/ .*//p')
# vf PF N: the address of its VF
vf() {
    basename "$(readlink -f "/sys/bus/pci/devices/$1/virtfn$2")"
}
check "two VFs of igb" "$mvm" vfio vf create "$igb" 2
check "a MAC for each" sh -c "$mvm vfio vf set $igb 0 mac=52:54:00:aa:00:01 && $mvm vfio vf set $igb 1 mac=52:54:00:aa:00:02"
check "two VFs of NVMe" "$mvm" vfio vf create "$nvme" 2
check "all four for VFIO" "$mvm" vfio bind "$(vf "$igb" 0)" "$(vf "$igb" 1)" "$(vf "$nvme" 0)" "$(vf "$nvme" 1)"
like "$(lspci -vvv -s "$(vf "$igb" 0)")" 'ARI' "the host sees ARI in a VF"
uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa100
check "the sample mdev driver" lab_modules mtty
check "two pairs of serial ports" sh -c "$mvm vfio mdev create mtty mtty-2 ${uuid}1 && $mvm vfio mdev create mtty mtty-2 ${uuid}4"

script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
waitnet eth0 60 | sed 's/^/lease /'
echo net $(cat /sys/class/net/eth0/address) $(basename $(readlink /sys/class/net/eth0/device/driver)) cpus $(nproc)
vf=$(basename $(readlink -f /sys/class/net/eth0/device))
echo ids $(cat /sys/class/net/eth0/device/vendor /sys/class/net/eth0/device/device) pin $(setpci -s $vf INTERRUPT_PIN)
pings() { bad=; for s in 0 56 1472 4000; do ping -q -c 1 -W 5 -s $s 10.0.2.2 >/dev/null || bad="$bad $s"; done; echo "$1 bad:$bad"; }
pings pings
echo hidden $(lspci -vvv -s $vf | grep -c 'ATS\|ARI\|SR-IOV\|Resizable')
at=$(($(nproc) * 16)) # MiB; both guests have one namespace
fio --name=v --filename=/dev/nvme0n1 --offset=${at}M --size=1M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
    --verify=crc32c --do_verify=1 >/tmp/fio 2>&1 && echo verify good || cat /tmp/fio
dd if=/dev/urandom bs=1M count=1 of=/tmp/r 2>/dev/null
dd if=/tmp/r bs=64k of=/dev/nvme0n1 seek=$((at * 16 + 128)) oflag=direct conv=fsync 2>/dev/null
echo sum $(sha256sum </tmp/r | cut -c1-64)
for p in 1 2 3 4; do
    [ -d /sys/class/tty/ttyS$p/device ] || continue
    [ "$(cat /sys/class/tty/ttyS$p/device/vendor 2>/dev/null || cat /sys/class/tty/ttyS$p/device/../../vendor 2>/dev/null)" = 0x4348 ] || continue
    stty -F /dev/ttyS$p raw -echo -crtscts clocal
    # The sample's ports give back what they are sent.
    timeout 20 head -c 12 /dev/ttyS$p >/tmp/port$p &
    sleep 1
    printf 'through-port' >/dev/ttyS$p
    wait $!
    echo port $(cat /tmp/port$p)
done
if [ $(nproc) = 1 ]; then
    # A driver that aims its controller at what is not its RAM, while the other guest has another VF of it.
    dev=$(basename $(readlink -f /sys/class/nvme/nvme0/device))
    settle() { for i in $(seq 20); do "$@" && return; sleep 1; done; return 1; }
    echo $dev >/sys/bus/pci/drivers/nvme/unbind
    setpci -s $dev COMMAND=6
    base=$(sed -n '1s/ .*//p' /sys/bus/pci/devices/$dev/resource)
    reg() { devmem $((base + $1)) 32 $2; }
    reg 0x14 0; settle eval '[ $(($(reg 0x1c) & 1)) = 0 ]'
    reg 0x24 0x000f000f
    reg 0x28 0x70000000; reg 0x2c 0; reg 0x30 0x70001000; reg 0x34 0
    reg 0x14 0x00460001; settle eval '[ $(($(reg 0x1c) & 1)) = 1 ]'
    reg 0x1000 1
    sleep 1
    reg 0x14 0
    echo $dev >/sys/bus/pci/drivers/nvme/bind
    settle dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && echo after stray dma good
fi
echo at the meeting
read -r go
pings together
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null && echo disk lives
iperf3 -c 10.0.2.99 -p 520$(nproc) -n 1M >/tmp/iperf 2>&1 && echo iperf good || cat /tmp/iperf
modprobe -r igbvf; modprobe igbvf
ip addr add 10.0.2.$((15 + $(nproc)))/24 dev eth0; ip link set eth0 up
for i in 1 2 3 4 5 6 7 8 9 10; do ping -q -c 1 -W 2 10.0.2.2 >/dev/null && break; done
pings reloaded
dmesg | grep -i 'igbvf.*fail\|nvme.*timeout' | sed 's/^/dmesg /'
echo all done
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"
run="mvm.run=\"d=/dev/vda; head -c $size \$d >/tmp/s; sh /tmp/s\""
guest_start one 700 "$mvm" --memory=256M --net=vfio:"$(vf "$igb" 0)" --blk=vfio:"$(vf "$nvme" 0)" \
    --blk=virtio:"$script",ro=on --console=emulated --console=vfio:${uuid}1 --append="quiet $run"
guest_start four 700 "$mvm" --memory=256M --cpus=4 --net=vfio:"/sys/bus/pci/devices/$(vf "$igb" 1)" \
    --blk=vfio:"$(vf "$nvme" 1)" --blk=virtio:"$script",ro=on --console=emulated --console=vfio:${uuid}4 --append="quiet $run"
for g in one four; do
    guest_expect $g '^at the meeting' 500 || diag "$g: $(guest_text $g | tail -n 30)"
done
for g in one four; do
    ! guest_alive $g || guest_send $g 'go\n'
done
for g in one four; do
    guest_wait $g
    is "$?" 0 "$g: the guest powers off"
    guest_said $g '^lease 10.0.2' "$g: a lease through the PF's network"
    guest_said $g '^ids 0x8086 0x10ca pin 00' "$g: a VF shows the id of its kind, and no pin"
    guest_said $g '^hidden 0$' "$g: what is the host's is hidden"
    guest_said $g '^pings bad:$' "$g: pings of all sizes"
    guest_said $g '^verify good' "$g: NVMe VF: fio finds all it wrote"
    guest_said $g '^iperf good' "$g: TCP to the PF"
    guest_said $g '^together bad:$' "$g: while the other one does the same"
    guest_said $g '^reloaded bad:$' "$g: with the driver loaded again"
    is "$(guest_text $g | grep -c '^port through-port')" 2 "$g: mtty: both serial ports carry what they are given"
    guest_said $g '^disk lives' "$g: NVMe VF: answers after one guest's stray DMA"
    guest_said $g '^all done' "$g: to the end"
done
guest_said one '^net 52:54:00:aa:00:01 igbvf cpus 1' "one vCPU: its own MAC"
guest_said four '^net 52:54:00:aa:00:02 igbvf cpus 4' "four vCPUs: its own MAC"
guest_said one '^mvm: console1: .*mtty-2 of mtty.* can do: .*migration' "mtty: mvm says what it can do"
guest_said one '^after stray dma good' "DMA outside its RAM: the guest lives"
vf_bdf=$(vf "$nvme" 0)
like "$(dmesg | grep -i "DMAR.*\[${vf_bdf#0000:}\].*fault addr" | tail -n 1)" 'fault addr 0x7000[01]000' \
    "DMA outside its RAM: the IOMMU stops it, and the host's log names the VF"
check "the VFs go back" "$mvm" vfio unbind "$(vf "$igb" 0)" "$(vf "$igb" 1)" "$(vf "$nvme" 0)" "$(vf "$nvme" 1)"
set -- /dev/nvme[0-9]n1 # not one path of several (nvme0c0n1)
disk=$1
# sum AT: what the host reads there
sum() {
    dd if="$disk" bs=64k skip=$(($1 * 16 + 128)) count=16 iflag=direct 2>/dev/null | sha256sum | cut -c1-64
}
is "$(sum 16) $(sum 64)" "$(guest_text one | sed -n 's/^sum //p') $(guest_text four | sed -n 's/^sum //p')" \
    "NVMe VFs: the host reads what the guests wrote"
diag "$(guest_text one | grep -E '^(mvm:|dmesg)')"
