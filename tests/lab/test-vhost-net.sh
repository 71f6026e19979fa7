#!/bin/sh
# Kernel vhost-net with Linux's driver, two VMs at once: one with a tap of two queues over PCI and another
# tap over MMIO, and a second VM that it talks to through a bridge. Filters, offloads, the number of
# queues, the driver's going under load, a tap's being deleted, and who did the work.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
ip link set lo up
ip tuntap add dev tap0 mode tap multi_queue
ip tuntap add dev tap1 mode tap
ip tuntap add dev tap2 mode tap
ip addr add 192.168.71.1/24 dev tap1
ip link add br0 type bridge
ip addr add 192.168.70.1/24 dev br0
for t in tap0 tap2; do ip link set $t master br0; done
for t in br0 tap0 tap1 tap2; do ip link set $t up; done
iperf3 -s -D --logfile "$LAB_TMP/iperf3.log"

# --- what is refused, and how ---
refused() { # TEXT REGEX FLAG
    said=$(timeout 60 "$mvm" --memory=128M "$3" 2>&1)
    is "$?" 1 "$1: refused at the start"
    like "$said" "$2" "$1: says why, and the way out"
}
mv /dev/vhost-net /dev/vhost-net.away
refused "no module" 'vhost=?.*no /dev/vhost-net.*modprobe vhost_net' --net=vhost:tap1
touch /dev/vhost-net
refused "another kind of node" '/dev/vhost-net is not a vhost device' --net=vhost:tap1
rm /dev/vhost-net
mv /dev/vhost-net.away /dev/vhost-net
refused "packed rings" 'ring=packed: vhost-net knows only split rings' --net=vhost:tap1,ring=packed
refused "user-mode NAT" 'vhost-net works on a tap.*--net=virtio:user' --net=vhost:user
refused "more queues than the tap has" 'not a tap with several queues' --net=vhost:tap1,queues=2

# --- guests ---
script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
speed() { # NAME ARGUMENTS...: "speed NAME N Mbits/sec"
    name=$1; shift
    timeout 90 iperf3 -f m "$@" >/tmp/iperf 2>&1 || sed 's/^/iperf3: /' /tmp/iperf
    sed -n "s/.* \([0-9.]*\) Mbits.sec.*receiver.*/speed $name \1 Mbits/p" /tmp/iperf | tail -n 1
}
received() { cat /sys/class/net/eth0/statistics/rx_packets; }
if [ -e /dev/vdb ]; then # the second VM: answers until it is told to go
    ping -q -c 1 -W 5 192.168.70.1 >/dev/null && echo second ready
    read -r word
    exit
fi
cd /sys/class/net
echo macs $(cat eth0/address eth1/address)
ethtool -L eth0 combined 2
echo irqs $(grep -c 'virtio[0-9]*-\(in\|out\)put' /proc/interrupts)
ethtool -k eth0 | sed -n 's/^\(tcp-segmentation-offload\|rx-checksumming\): /offload \1 /p'
for nic in 0 1; do
    bad=
    for size in 0 1 17 56 511 1000 1472 1473 4096 9000; do
        ping -q -c 1 -W 5 -s $size 192.168.7$nic.1 >/dev/null || bad="$bad $size"
    done
    echo "ping eth$nic bad:$bad"
done
ping -q -c 3 -W 5 192.168.70.3 >/dev/null && echo "ping second good"
speed eth0-out -c 192.168.70.1 -t 2 -P 4
speed eth0-in -c 192.168.70.1 -t 2 -P 4 -R
speed eth1-out -c 192.168.71.1 -t 1
speed eth1-in -c 192.168.71.1 -t 1 -R
ethtool -L eth0 combined 1; echo pairs $(ethtool -l eth0 | awk '/Combined/ { print $2 }')
speed one-pair -c 192.168.70.1 -t 1 -P 2 -R
ethtool -L eth0 combined 2
speed two-pairs -c 192.168.70.1 -t 1 -P 2 -R
ethtool -K eth0 tso off gso off gro off tx off rx off 2>/dev/null
speed plain-out -c 192.168.70.1 -t 1
speed plain-in -c 192.168.70.1 -t 1 -R
ethtool -K eth0 tso on gso on gro on tx on rx on 2>/dev/null
a=$(received); echo filter on; read -r word; b=$(received)
ip link set eth0 promisc on; echo filter off; read -r word; c=$(received)
ip link set eth0 promisc off
echo "foreign $((b - a)) $((c - b))"
# The driver goes while both taps are busy, and comes back.
iperf3 -c 192.168.70.1 -t 20 -P 2 >/dev/null 2>&1 &
iperf3 -c 192.168.71.1 -t 20 >/dev/null 2>&1 &
sleep 1
modprobe -r virtio_net; echo removed $? left $(ls /sys/class/net | tr '\n' ' ')
modprobe virtio_net; sleep 1
for nic in 0 1; do
    ip addr add 192.168.7$nic.2/24 dev eth$nic
    ip link set eth$nic up
    ping -q -c 3 -W 5 192.168.7$nic.1 >/dev/null && echo eth$nic is back
done
echo tap1 may go
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(cat eth1/carrier 2>/dev/null)" = 1 ] || break
    sleep 1
done
echo "carrier eth0 $(cat eth0/carrier) eth1 $(cat eth1/carrier)"
ping -q -c 1 -W 5 192.168.70.1 >/dev/null && echo "ping after good"
dmesg | grep -i "virtio_net\|NETDEV WATCHDOG" | sed 's/^/dmesg /'
echo all done
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"
run="mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""

guest_start two 300 "$mvm" --memory=256M --blk=virtio:"$script",ro=on --blk=virtio:"$script",ro=on \
    --net=vhost:tap2,mac=52:54:00:6d:76:30 --append="quiet mvm.ip=192.168.70.3/24 $run"
# One after the other: two that boot at once on one CPU take very long.
check "a second VM is up" guest_expect two '^second ready' 200
guest_start one 200 "$mvm" --memory=256M --blk=virtio:"$script",ro=on \
    --net=vhost:tap0,queues=2 --net=vhost:tap1,transport=mmio \
    --append="quiet mvm.ip=eth0=192.168.70.2/24 mvm.ip=eth1=192.168.71.2/24 $run"

# Frames for somebody else, who is said to be behind the tap.
foreign() {
    ip neigh replace 192.168.70.99 lladdr 52:54:00:ff:00:99 dev br0
    bridge fdb replace 52:54:00:ff:00:99 dev tap0 master 2>/dev/null
    ping -q -c 20 -i 0.01 -W 1 192.168.70.99 >/dev/null
}
if guest_expect one '^filter on' 400; then
    threads=$(cat /proc/"$(pgrep -P "$(cat "$LAB_TMP/one.pid")")"/task/*/comm)
    is "$(echo "$threads" | grep -c '^vhost-')" 3 "a worker of the kernel for each pair of queues" || diag "$threads"
    foreign; ! guest_alive one || guest_send one 'go\n'
    guest_expect one '^filter off' 300
    foreign; ! guest_alive one || guest_send one 'go\n'
    guest_expect one '^tap1 may go' 600 && ip link del tap1
else
    not_ok "the guest gets as far as its filters"
    diag "$(guest_text one | tail -n 40)"
    guest_kill one
fi
guest_wait one
is "$?" 0 "the guest powers off"
! guest_alive two || guest_send two 'go\n'
guest_wait two
is "$?" 0 "so does the second"
text=$(guest_text one)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said macs '52:54:00:6d:76:00 52:54:00:6d:76:01$' "addresses by the place of the card"
said irqs '4$' "each queue has its vector"
said 'offload tcp-segmentation-offload' 'on' "TCP segmentation is offered"
said 'offload rx-checksumming' 'on' "so are checksums"
said 'ping eth0' 'bad:$' "two queues: pings of all sizes are answered"
said 'ping eth1' 'bad:$' "MMIO: pings of all sizes are answered"
said 'ping second' 'good$' "the two VMs reach each other"
for what in eth0-out eth0-in eth1-out eth1-in one-pair two-pairs plain-out plain-in; do
    said "speed $what" '[0-9.]*[1-9][0-9.]* Mbits' "iperf3: $what"
done
diag "$(echo "$text" | grep -E '^(speed|iperf3:)')"
said pairs '2 1$' "of two pairs the driver can do with one"
said foreign '[0-9] [2-9][0-9]' "the tap drops what is for others, unless the card is promiscuous"
said removed '0 left lo *$' "the driver can be removed under load"
said eth0 'is back$' "the first tap works with the driver loaded again"
said eth1 'is back$' "so does the second"
said carrier 'eth0 1 eth1 0$' "a tap that is deleted unplugs the cable, of that card"
said 'ping after' 'good$' "the other one works on"
said all 'done$' "the guest ran to the end"
is "$(echo "$text" | grep '^dmesg .*WATCHDOG')" "" "no transmit queue stood still"
check "a tap that was there stays" test -d /sys/class/net/tap0
