#!/bin/sh
# virtio-net with Linux's driver, three cards in one guest: a tap with four queues and jumbo frames,
# user-mode NAT, and over MMIO a tap by packed ring without mergeable buffers.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"
. "$LAB_DIR/lib/net.sh"

mvm=$MVM_BUILD/mvm
net_tap tap0 192.168.70.1/24 multi_queue
net_tap tap2 192.168.72.1/24
ip link set tap0 mtu 9000
net_servers
sizes="0 1 17 56 511 1000 1472 1473 2048 4096 5000 8972 8973 9000"

words=$(net_script net sizes="$sizes" <<'GUEST'
waitnet eth1 30 | sed 's/^/lease /'
virtio=$(basename "$(readlink -f /sys/class/net/eth0/device)")
irqs() { # interrupts of each receive queue of eth0 so far
    awk -v q="$virtio-input" 'index($NF, q) == 1 { n = 0; for (i = 2; i <= 5; i++) n += $i; print n }' /proc/interrupts
}

cd /sys/class/net
echo macs $(cat eth0/address eth1/address eth2/address)
echo mtu $(cat eth0/mtu) speed $(cat eth0/speed) duplex $(cat eth0/duplex)
ethtool -l eth0 | sed -n 's/Combined:/pairs/p' | tr -s '\t\n' '  '; echo
for nic in 0 2; do pings eth$nic 192.168.7$nic.1 $sizes; done
before=$(irqs)
speed eth0-out -c 192.168.70.1 -t 2 -P 8
speed eth0-in -c 192.168.70.1 -t 2 -P 8 -R
echo before $before after $(irqs)
speed eth2-out -c 192.168.72.1 -t 1
speed eth2-in -c 192.168.72.1 -t 1 -R
datagrams udp-out 192.168.70.1
datagrams udp-in 192.168.70.1 -R
ethtool -K eth0 tso off gso off gro off tx off rx off 2>/dev/null
speed plain-out -c 192.168.70.1 -t 1
speed plain-in -c 192.168.70.1 -t 1 -R
ethtool -K eth0 tso on gso on gro on tx on rx on 2>/dev/null
ethtool -L eth0 combined 2 && speed two-pairs -c 192.168.70.1 -t 1 -P 4 && ethtool -L eth0 combined 4
speed user-out -c 10.0.2.2 -t 1
speed user-in -c 10.0.2.2 -t 1 -R
nc -ll -p 7 -e cat &
echo server ready
read -r go
# The driver goes while both taps are busy, and comes back.
load 5202 -c 192.168.70.1 -P 4
load 5203 -c 192.168.72.1 -R
busy eth0 eth2; echo load $?
modprobe -r virtio_net; echo removed $? left $(ls /sys/class/net | tr '\n' ' ')
stop
modprobe virtio_net
for nic in 0 2; do back eth$nic 192.168.7$nic.2/24 192.168.7$nic.1; done
speed eth0-again -c 192.168.70.1 -t 1
echo tap2 may go
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(cat eth2/carrier)" = 1 ] || break
    sleep 1
done
echo carrier eth0 $(cat eth0/carrier) eth2 $(cat eth2/carrier)
complaints 'virtio_net.*\(fail\|error\|hang\|reset\)'
echo all done
GUEST
)

guest_start net 700 "$mvm" --memory=512M --cpus=4 --blk=virtio:"$LAB_TMP/net.img",ro=on \
    --net=virtio:tap0,queues=4,mtu=9000 --net=virtio:user,hostfwd=tcp::2007-:7 \
    --net=virtio:tap2,transport=mmio,ring=packed,mergeable=off \
    --append="quiet mvm.ip=eth0=192.168.70.2/24 mvm.ip=eth2=192.168.72.2/24 $words"
net_served net 600
# From the host to the guest, through the NAT, and pings from outside.
net_echo 127.0.0.1:2007 "hostfwd: 1 MiB to the guest and back is the same"
for nic in 0 2; do
    net_echo 192.168.7$nic.2:7 "tap$nic: 1 MiB to the guest and back is the same"
    # shellcheck disable=SC2086 # a list
    net_pings "tap$nic: pings of all sizes from the host are answered" 192.168.7$nic.2 $sizes
done
guest_send net 'go\n'
guest_expect net '^tap2 may go' 400 && ip link del tap2
guest_wait net
is "$?" 0 "the guest powers off"
net_read net
net_quiet net
said macs '52:54:00:6d:76:00 52:54:00:6d:76:01 52:54:00:6d:76:02$' "addresses by the place of the card"
said mtu '9000 speed 10000 duplex full' "MTU, speed and duplex are told"
said pairs '4 pairs 4' "four pairs of queues are there and used"
said 'ping eth0' 'bad:$' "tap, jumbo: pings of all sizes are answered"
said 'ping eth2' 'bad:$' "tap, MMIO, packed, not mergeable: pings of all sizes are answered"
speeds eth0-out eth0-in eth2-out eth2-in udp-out udp-in plain-out plain-in two-pairs user-out user-in eth0-again
lossless udp-out udp-in
spread=$(guest_text net | sed -n 's/^before \(.*\) after \(.*\)/\1 \2/p' |
    awk '{ n = 0; for (i = 1; i <= 4; i++) n += $(i + 4) > $i; print n, "of 4:", $0 }')
like "$spread" '^4 of 4' "all four receive queues interrupt"
said lease '10.0.2.15/24$' "user-mode NAT gives a lease"
said load '0$' "both taps are busy"
said removed '0 left lo *$' "the driver can be removed under load"
said 'back eth0' 'answers$' "the first tap works with the driver loaded again"
said 'back eth2' 'answers$' "so does the second"
said carrier 'eth0 1 eth2 0$' "a tap that is deleted unplugs the cable, of that card"
check "the tap that was there stays" test -d /sys/class/net/tap0
