#!/bin/sh
# virtio-net with Linux's driver, three cards in one guest: a tap with four queues and jumbo frames,
# user-mode NAT, and over MMIO a tap by packed ring without mergeable buffers.
# lab: timeout=1200
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
ip link set lo up
echo 4194304 | tee /proc/sys/net/core/rmem_max >/proc/sys/net/core/wmem_max
ip tuntap add dev tap0 mode tap multi_queue
ip tuntap add dev tap2 mode tap
ip link set tap0 mtu 9000
for i in 0 2; do
    ip addr add 192.168.7$i.1/24 dev tap$i
    ip link set tap$i up
done
iperf3 -s -D --logfile "$LAB_TMP/iperf3.log"

# What the guest does, too long for its command line: it comes on a disk.
script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
waitnet eth1 30 | sed 's/^/lease /'
speed() { # NAME ARGUMENTS...: "NAME N Mbits/sec"
    name=$1; shift
    timeout 30 iperf3 -f m "$@" >/tmp/iperf 2>&1 || sed 's/^/iperf3: /' /tmp/iperf
    sed -n "s/.* \([0-9.]*\) Mbits.sec.*receiver.*/speed $name \1 Mbits/p" /tmp/iperf | tail -n 1
}
virtio=$(basename "$(readlink -f /sys/class/net/eth0/device)")
irqs() { # interrupts of each receive queue of eth0 so far
    awk -v q="$virtio-input" 'index($NF, q) == 1 { n = 0; for (i = 2; i <= 5; i++) n += $i; print n }' /proc/interrupts
}

echo 4194304 | tee /proc/sys/net/core/rmem_max >/proc/sys/net/core/wmem_max
cd /sys/class/net
echo macs $(cat eth0/address eth1/address eth2/address)
echo mtu $(cat eth0/mtu) speed $(cat eth0/speed) duplex $(cat eth0/duplex)
ethtool -l eth0 | sed -n 's/Combined:/pairs/p' | tr -s '\t\n' '  '; echo
for nic in 0 2; do
    bad=
    for size in 0 1 17 56 511 1000 1472 1473 2048 4096 5000 8972 8973 9000; do
        ping -q -c 1 -W 3 -s $size 192.168.7$nic.1 >/dev/null || bad="$bad $size"
    done
    echo "ping eth$nic bad:$bad"
done
before=$(irqs)
speed eth0-out -c 192.168.70.1 -t 2 -P 8
speed eth0-in -c 192.168.70.1 -t 2 -P 8 -R
echo before $before after $(irqs)
speed eth2-out -c 192.168.72.1 -t 1
speed eth2-in -c 192.168.72.1 -t 1 -R
speed eth0-udp-out -c 192.168.70.1 -t 1 -u -b 5M -l 1400 -w 2M
grep -o '([0-9.e+-]*%).*receiver' /tmp/iperf | sed 's/^/udp out lost /'
speed eth0-udp-in -c 192.168.70.1 -t 1 -u -b 5M -l 1400 -w 2M -R
grep -o '([0-9.e+-]*%).*receiver' /tmp/iperf | sed 's/^/udp in lost /'
ethtool -K eth0 tso off gso off gro off tx off rx off 2>/dev/null
speed eth0-plain-out -c 192.168.70.1 -t 1
speed eth0-plain-in -c 192.168.70.1 -t 1 -R
ethtool -K eth0 tso on gso on gro on tx on rx on 2>/dev/null
ethtool -L eth0 combined 2 && speed two-pairs -c 192.168.70.1 -t 1 -P 4 && ethtool -L eth0 combined 4
speed user-out -c 10.0.2.2 -t 1
speed user-in -c 10.0.2.2 -t 1 -R
nc -ll -p 7 -e cat &
echo echo server ready
while [ ! -e /tmp/go ]; do read -r word && [ "$word" = go ] && break; done
# The driver goes while both taps are busy, and comes back.
iperf3 -c 192.168.70.1 -t 20 -P 4 >/dev/null 2>&1 &
sleep 2
modprobe -r virtio_net; echo removed $? left $(ls /sys/class/net | tr '\n' ' ')
modprobe virtio_net; sleep 1
kill %2 2>/dev/null
for nic in 0 2; do
    ip addr add 192.168.7$nic.2/24 dev eth$nic
    ip link set eth$nic up
    ping -q -c 3 -W 3 192.168.7$nic.1 >/dev/null && echo eth$nic is back
done
sleep 1
speed eth0-again -c 192.168.70.1 -t 1
dmesg | grep -i "virtio_net\|NETDEV WATCHDOG" | sed 's/^/dmesg /'
echo all done
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"

guest_start net 700 "$mvm" --memory=512M --cpus=4 --blk=virtio:"$script",ro=on \
    --net=virtio:tap0,queues=4,mtu=9000 --net=virtio:user,hostfwd=tcp::2007-:7 \
    --net=virtio:tap2,transport=mmio,ring=packed,mergeable=off \
    --append="quiet mvm.ip=eth0=192.168.70.2/24 mvm.ip=eth2=192.168.72.2/24 \
mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""

if guest_expect net "^echo server ready" 600; then
    ok "the guest gets as far as its servers"
    # From the host to the guest, through the NAT, and pings from outside.
    head -c 1M /dev/urandom >"$LAB_TMP/out"
    timeout 30 socat -t 10 "OPEN:$LAB_TMP/out!!CREATE:$LAB_TMP/in" TCP:127.0.0.1:2007
    check "hostfwd: 1 MiB to the guest and back is the same" cmp "$LAB_TMP/out" "$LAB_TMP/in"
    bad=
    for nic in 0 2; do
        for s in 0 1 55 1000 1472 1473 4096 8972 8973 9000; do
            ping -q -c 1 -W 3 -s $s 192.168.7$nic.2 >/dev/null || bad="$bad tap$nic:$s"
        done
    done
    is "$bad" "" "pings of all sizes from the host are answered"
    guest_send net 'go\n'
else
    not_ok "the guest gets as far as its servers"
    diag "$(guest_text net | tail -n 60)"
    guest_kill net
fi
guest_wait net
is "$?" 0 "the guest powers off"
text=$(guest_text net)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said macs '52:54:00:6d:76:00 52:54:00:6d:76:01 52:54:00:6d:76:02$' "addresses by the place of the card"
said mtu '9000 speed 10000 duplex full' "MTU, speed and duplex are told"
said pairs '4 pairs 4' "four pairs of queues are there and used"
said 'ping eth0' 'bad:$' "tap, jumbo: pings of all sizes are answered"
said 'ping eth2' 'bad:$' "tap, MMIO, packed, not mergeable: pings of all sizes are answered"
for what in eth0-out eth0-in eth2-out eth2-in eth0-udp-out eth0-udp-in eth0-plain-out eth0-plain-in two-pairs \
    user-out user-in eth0-again; do
    said "speed $what" '[0-9.]*[1-9][0-9.]* Mbits' "iperf3: $what"
done
diag "$(echo "$text" | grep -E '^(speed|iperf3:)')"
said 'udp out' 'lost \([0-9][.%]' "UDP out: nothing to speak of is lost"
said 'udp in' 'lost \([0-9][.%]' "UDP in: nothing to speak of is lost"
spread=$(echo "$text" | sed -n 's/^before \(.*\) after \(.*\)/\1 \2/p' |
    awk '{ n = 0; for (i = 1; i <= 4; i++) n += $(i + 4) > $i; print n, "of 4:", $0 }')
like "$spread" '^4 of 4' "all four receive queues interrupt"
said lease '10.0.2.15/24$' "user-mode NAT gives a lease"
said removed '0 left lo *$' "the driver can be removed under load"
said eth0 'is back$' "the first tap works with the driver loaded again"
said eth2 'is back$' "so does the second"
said all 'done$' "the guest ran to the end"
is "$(echo "$text" | grep '^dmesg .*WATCHDOG')" "" "no transmit queue stood still"
check "the taps that were there stay" test -d /sys/class/net/tap0 -a -d /sys/class/net/tap2
