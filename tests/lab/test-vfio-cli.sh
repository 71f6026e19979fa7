#!/bin/sh
# `mvm vfio` on a host with real drivers: the list against what the kernel says, binding and back, SR-IOV
# of a NIC and of an NVMe controller, mediated devices, and refusals with the thing they refuse there.
# lab: device=nvme-sriov,igb,e1000e,nvme modules=mtty timeout=300
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
out=$LAB_TMP/out
err=$LAB_TMP/err

# vfio WORD...: runs it; $out, $err and $status tell the rest
vfio() {
    "$mvm" vfio "$@" >"$out" 2>"$err"
    status=$?
}

# refuses STATUS REGEX WORD...: it ends so, says that, and prints nothing
refuses() {
    want=$1
    says=$2
    shift 2
    vfio "$@"
    if [ "$status" = "$want" ] && [ ! -s "$out" ] && grep -Eq -e "$says" "$err"; then
        ok "refused: mvm vfio $*"
    else
        not_ok "refused: mvm vfio $*"
        diag "exit status $status, wanted $want; should say: $says"
        diag "$(cat "$out" "$err")"
    fi
}

# works TEXT WORD...
works() {
    text=$1
    shift
    vfio "$@"
    if [ "$status" = 0 ]; then
        ok "$text"
    else
        not_ok "$text"
        diag "exit status $status: $(cat "$err")"
    fi
}

driver_of() {
    basename "$(readlink "/sys/bus/pci/devices/$1/driver" 2>/dev/null)" 2>/dev/null
}

group_of() {
    basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"
}

# function_of VENDOR:DEVICE [N]: the address of the N-th function with these ids
function_of() {
    lspci -D -n -d "$1" | sed -n "${2:-1}s/ .*//p"
}

# json EXPRESSION: of the list, in Python; j is all, f the functions by address
json() {
    "$mvm" vfio list --json | python3 -c '
import json, sys
j = json.load(sys.stdin)
f = {x["address"]: x for x in j["functions"]}
print(eval(sys.argv[1]))' "$1"
}

# wait_for COMMAND...: until it succeeds, for half a minute
wait_for() {
    tries=300
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

nic=$(function_of 8086:10d3)
igb=$(function_of 8086:10c9)
nvme=$(for d in $(lspci -D -n -d ::0108 | sed 's/ .*//'); do
    [ -e "/sys/bus/pci/devices/$d/sriov_totalvfs" ] || echo "$d"
done)
pf=$(for d in $(lspci -D -n -d ::0108 | sed 's/ .*//'); do
    [ ! -e "/sys/bus/pci/devices/$d/sriov_totalvfs" ] || echo "$d"
done)
igb_if=$(ls "/sys/bus/pci/devices/$igb/net")

# --- list ---------------------------------------------------------------------------------------

works "list" list
is "$(awk -v d="$nic" '$1 == d { print $2, $3, $4, $5, $6 }' "$out")" \
    "ethernet 8086:10d3 e1000e $(group_of "$nic") -" "list: e1000e"
is "$(awk -v d="$igb" '$1 == d { print $2, $4, $6 }' "$out")" "ethernet igb 0/7" "list: igb and its VFs"
is "$(awk -v d="$pf" '$1 == d { print $2, $4, $6 }' "$out")" "nvme nvme 0/2" "list: NVMe and its VFs"
is "$(json '" ".join(sorted(f))')" "$(cd /sys/bus/pci/devices && echo *)" "JSON has every function"
is "$(json "f['$nic']['group']['viable'], [m['name'] for m in f['$nic']['group']['members']]")" \
    "(False, $(cd "/sys/bus/pci/devices/$nic/iommu_group/devices" && python3 -c 'import os; print(sorted(os.listdir(".")))'))" \
    "JSON: its group is not viable yet, and has the members that the kernel says"

# --- bind and unbind ----------------------------------------------------------------------------

works "bind a NIC and an NVMe function" bind "$nic" "${nvme#0000:}"
is "$(driver_of "$nic") $(driver_of "$nvme")" "vfio-pci vfio-pci" "both are with vfio-pci"
check "their groups have files" test -c "/dev/vfio/$(group_of "$nic")" -a -c "/dev/vfio/$(group_of "$nvme")"
is "$(json "f['$nic']['group']['viable'], f['$nic']['former']['driver']")" "(True, 'e1000e')" \
    "the group is viable, and the list knows the former driver"
works "binding twice does no harm" bind "$nic"
like "$(cat "$out")" "already with vfio-pci" "and says so"
exec 7<>"/dev/vfio/$(group_of "$nic")"
refuses 1 "has it open" unbind "$nic"
is "$(driver_of "$nic")" vfio-pci "it is still bound"
vfio list
like "$(grep "^$nic" "$out")" "in use by .*pid [0-9]+\); was e1000e" "list says who has it"
exec 7>&-
works "unbind both" unbind "$nic" "$nvme"
is "$(driver_of "$nic") $(driver_of "$nvme")" "e1000e nvme" "they have their drivers again"
check "the NVMe disk is back" wait_for sh -c "ls -d /sys/bus/pci/devices/$nvme/nvme/nvme*/nvme*n1"
is "$(cat "/sys/bus/pci/devices/$nic/driver_override")" "(null)" "no override is left"
is "$(ls /run/mvm/vfio)" lock "no record is left"

# The first is undone when the second cannot be had.
disk=/dev/$(basename "$(ls -d "/sys/bus/pci/devices/$nvme"/nvme/nvme*/nvme*n1 | head -n 1)" | sed 's/c[0-9]*n/n/')
wait_for test -b "$disk"
mkfs.ext4 -q "$disk" && mkdir -p "$LAB_TMP/mnt" && mount "$disk" "$LAB_TMP/mnt"
refuses 1 "mounted on .*/mnt; unmount it first" bind "$nic" "$nvme"
is "$(driver_of "$nic") $(driver_of "$nvme")" "e1000e nvme" "and neither is taken"
umount "$LAB_TMP/mnt"
# Where this mount namespace does not show it, as in a container.
unshare -m sh -c "mount $disk $LAB_TMP/mnt && exec sleep 100" &
container=$!
wait_for grep -q "$LAB_TMP/mnt" "/proc/$container/mountinfo"
refuses 1 "disk ${disk#/dev/} is held by" bind "$nvme"
is "$(driver_of "$nvme")" nvme "and it is not taken"
kill $container
wait $container
ip link add br0 type bridge && ip link set "$(ls "/sys/bus/pci/devices/$nic/net")" master br0
refuses 1 "part of br0" bind "$nic"
ip link del br0

refuses 2 "no device" bind eth0
refuses 1 "no PCI function 0000:7f:00.0" bind 7f:00.0
refuses 1 "bridge" bind "$(lspci -D -n -d ::0604 | sed -n '1s/ .*//p')"
refuses 2 "too few words" bind
refuses 2 "did you mean .bind" bnid "$nic"

# --- SR-IOV of a NIC ------------------------------------------------------------------------------

ip link set "$igb_if" up
refuses 1 "no SR-IOV" vf create "$nic" 1
refuses 1 "1 to 7 VFs" vf create "$igb" 8
refuses 2 "N: " vf create "$igb" two
works "two VFs of igb" vf create "$igb" 2
vf0=$(sed -n '1s/:* VF.*//p' "$out")
vf1=$(sed -n '2s/:* VF.*//p' "$out")
is "$(basename "$(readlink "/sys/bus/pci/devices/$igb/virtfn1")")" "$vf1" "they are those that the kernel has"
refuses 1 "vf destroy" vf create "$igb" 3
vfio list
like "$(grep "^$vf1" "$out")" "VF 1 of $igb" "list: the VF and its PF"
works "MAC, VLAN and trust of VF 1" vf set "$igb" 1 mac=52:54:00:aa:bb:01 vlan=7 trust=on
like "$(ip link show "$igb_if")" "vf 1 .*52:54:00:aa:bb:01.*vlan 7.*trust on" "ip sees them"
works "no VLAN any more" vf set "$igb" 1 vlan=0
like "$(ip link show "$igb_if" | grep 'vf 1 ' | sed 's/.*vlan.*/still a VLAN/')" "52:54:00:aa:bb:01.*trust on" "and the rest is as it was"
check "the driver igbvf" modprobe igbvf
echo "$vf1" >/sys/bus/pci/drivers/igbvf/unbind
echo "$vf1" >/sys/bus/pci/drivers/igbvf/bind
is "$(cat "/sys/bus/pci/devices/$vf1"/net/*/address)" "52:54:00:aa:bb:01" "the VF's own driver sees the MAC"
refuses 1 "there is no VF 2" vf set "$igb" 2 trust=off
refuses 2 "no address of a station" vf set "$igb" 1 mac=ff:ff:ff:ff:ff:ff
refuses 2 "vlan: " vf set "$igb" 1 vlan=4095
refuses 2 "what is to be set" vf set "$igb" 1

works "VF 1 for VFIO" bind "$vf1"
exec 7<>"/dev/vfio/$(group_of "$vf1")"
refuses 1 "VF 1 .* is in use: .* has it open" vf destroy "$igb"
exec 7>&-
refuses 1 "has 2 VFs, which would go with its driver" bind "$igb"
vf0_if=$(ls "/sys/bus/pci/devices/$vf0/net")
ip link set "$vf0_if" up
refuses 1 "VF 0 .* is in use: its interface $vf0_if is up" vf destroy "$igb"
is "$(cat "/sys/bus/pci/devices/$igb/sriov_numvfs")" 2 "and all VFs are there"
ip link set "$vf0_if" down
works "destroyed when nobody uses them" vf destroy "$igb"
is "$(cat "/sys/bus/pci/devices/$igb/sriov_numvfs") $(ls /run/mvm/vfio)" "0 lock" "nothing is left of them"

# --- SR-IOV of NVMe -------------------------------------------------------------------------------

controller=/dev/$(ls "/sys/bus/pci/devices/$pf/nvme")
# secondary FIELD: of both VFs' controllers
secondary() {
    nvme list-secondary "$controller" -o json | python3 -c '
import json, sys
j = json.load(sys.stdin)
rows = [x for k, v in j.items() if k != "num" for x in v]
print(" ".join(str(x.get(sys.argv[1], "?")) for x in rows[:2]))' "$1"
}
refuses 1 "at most|too few" vf create "$pf" 2 queues=100
is "$(cat "/sys/bus/pci/devices/$pf/sriov_numvfs")" 0 "and no VF is left"
works "two VFs of NVMe" vf create "$pf" 2
nvf0=$(sed -n '1s/:* VF.*//p' "$out")
nvf1=$(sed -n '2s/:* VF.*//p' "$out")
is "$(secondary secondary-controller-state)" "1 1" "both are online"
is "$(secondary num-virtual-queues) $(secondary num-virtual-interrupts)" "2 2 2 2" "with two queue pairs and interrupts each"
is "$(driver_of "$nvf0") $(driver_of "$nvf1")" "nvme nvme" "their driver took them"
check "VF 0 is a controller that lives" wait_for grep -q live "/sys/bus/pci/devices/$nvf0"/nvme/nvme*/state
is "$(cat "/sys/bus/pci/devices/$pf/sriov_drivers_autoprobe")" 1 "drivers are probed by themselves again"
works "VF 1 for VFIO" bind "$nvf1"
is "$(driver_of "$nvf1") $(json "f['$nvf1']['group']['viable']")" "vfio-pci True" "bound, and viable"
works "destroyed" vf destroy "$pf"
is "$(secondary secondary-controller-state) $(secondary num-virtual-queues)" "0 0 0 0" "offline, and their resources are back"
refuses 1 "a VF can have 2 queue pairs at most, not 3" vf create "$pf" 1 queues=3
works "one VF with chosen resources" vf create "$pf" 1 queues=2 vectors=1 --json
is "$(python3 -c 'import json, sys; print(len(json.load(sys.stdin)["vfs"]))' <"$out")" 1 "as JSON"
is "$(secondary num-virtual-queues) $(secondary num-virtual-interrupts)" "2 0 1 0" "it has them"
works "destroyed again" vf destroy "$pf"

# --- mediated devices -----------------------------------------------------------------------------

refuses 1 "is its driver loaded" mdev create mtty mtty-1
check "the sample driver" lab_modules mtty
refuses 1 "it makes mtty-1 .*mtty-2" mdev create mtty mtty-3
refuses 2 "no UUID" mdev create mtty mtty-2 1234
uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
works "one of a chosen UUID" mdev create mtty mtty-2 $uuid
check "the kernel has it" test -d /sys/bus/mdev/devices/$uuid
refuses 1 "there is a mediated device of that UUID" mdev create mtty mtty-2 $uuid
works "one of a new UUID" mdev create mtty mtty-1
other=$(cat "$out")
check "the kernel has it too" test -d "/sys/bus/mdev/devices/$other"
vfio list
like "$(cat "$out")" "^$uuid +mtty +mtty-2 +$(basename "$(readlink /sys/bus/mdev/devices/$uuid/iommu_group)")" "list: the device"
free=$(cat /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/available_instances)
is "$(awk '$1 == "mtty" && $2 == "mtty-2" { print $3, $4, $5 }' "$out")" "vfio-pci $free 1" "list: its type"
exec 7<>"/dev/vfio/$(basename "$(readlink /sys/bus/mdev/devices/$uuid/iommu_group)")"
refuses 1 "has it open" mdev destroy $uuid
exec 7>&-
while vfio mdev create mtty mtty-2 && [ "$status" = 0 ]; do :; done
like "$(cat "$err")" "no more mtty-2 can be made" "a full type says so"
for d in /sys/bus/mdev/devices/*; do
    "$mvm" vfio mdev destroy "$(basename "$d")" >/dev/null || break
done
is "$(ls /sys/bus/mdev/devices)" "" "all destroyed"
refuses 1 "no mediated device" mdev destroy $uuid

# --- auto-bind=on -------------------------------------------------------------------------------

# holder FUNCTION: the pid of the mvm that has it open
holder() {
    "$mvm" vfio list "$1" | sed -n 's/.*in use by mvm (pid \([0-9]*\)).*/\1/p'
}
has_holder() {
    [ -n "$(holder "$1")" ]
}
# machine NAME FLAG: a machine with the function of the flag, until it has it open
machine() {
    guest_start "$1" 100 "$mvm" --memory=256M "$2"
    wait_for has_holder "$(echo "$2" | grep -o '[0-9a-f]*:[0-9a-f]*:[0-9a-f]*\.[0-7]')" && return
    diag "$(guest_text "$1" | head -n 5)"
    return 1
}

if "$mvm" --help=blk | grep -q auto-bind; then
    machine term --blk=vfio:"$nvme",auto-bind=on
    is "$?" 0 "a machine binds its disk itself"
    vfio list "$nvme"
    like "$(cat "$out")" "was nvme, put back by mvm at its end" "list says what will be"
    refuses 1 "mvm \(pid [0-9]+\) has it" unbind "$nvme"
    like "$("$mvm" --memory=128M --blk=vfio:"$nvme",auto-bind=on 2>&1 </dev/null)" "another mvm \(pid [0-9]+\)" "a second machine is refused"
    guest_kill term
    is "$(driver_of "$nvme") $(ls /run/mvm/vfio)" "nvme lock" "SIGTERM: the function has its driver again"
    machine kill --blk=vfio:"$nvme",auto-bind=on
    is "$?" 0 "and once more"
    kill -KILL "$(holder "$nvme")"
    guest_wait kill
    vfio list "$nvme"
    like "$(cat "$out")" "vfio-pci .*was nvme, left by an mvm that crashed" "SIGKILL: it is left bound, and list says so"
    machine next --net=vfio:"$nic",auto-bind=on
    is "$?" 0 "the next machine"
    is "$(driver_of "$nvme") $(driver_of "$nic")" "nvme vfio-pci" "puts back what the other left"
    guest_kill next
    is "$(driver_of "$nic") $(ls /run/mvm/vfio)" "e1000e lock" "and its own at its end"
    like "$("$mvm" --memory=128M --net=vfio:"$nvme",auto-bind=on 2>&1 </dev/null)" "class" "a start that fails (wrong class)"
    is "$(driver_of "$nvme") $(ls /run/mvm/vfio)" "nvme lock" "leaves nothing bound"
fi

# --- without rights -------------------------------------------------------------------------------

setpriv --reuid=65534 --regid=65534 --clear-groups "$mvm" vfio bind "$nic" >"$out" 2>"$err"
is "$? $(grep -c 'needs root' "$err")" "1 1" "another user is told that it needs root"
check "but may look" setpriv --reuid=65534 --regid=65534 --clear-groups "$mvm" vfio list
