#!/bin/sh
# The emulated e1000 with Linux's driver: what it can do, on a tap and on user-mode NAT, in a guest with one
# processor; then two taps, one with doorbells that exit and one with eventfds, under load with four.
# lab: timeout=600
. "$LAB_DIR/lib/lab.sh"
. "$LAB_DIR/lib/net.sh"

mvm=$MVM_BUILD/mvm
net_tap tap0 192.168.80.1/24
net_tap tap1 192.168.81.1/24
net_servers
sizes="0 1 17 18 56 511 1000 1472 1473 2048 8000"

# ---- one processor ----
words=$(net_script one sizes="$sizes" <<'GUEST'
waitnet eth1 30 | sed 's/^/lease /'
cd /sys/class/net
echo macs $(cat eth0/address eth1/address)
echo link $(cat eth0/speed) $(cat eth0/duplex) $(cat eth0/carrier)
ethtool -e eth0 length 6 | tail -n 1 | sed 's/^/eeprom /'
ethtool -a eth0 | grep '^[RT]X:' | tr -s '\t\n' '  ' | sed 's/^/pause /'; echo
pings eth0 192.168.80.1 $sizes
speed out -c 192.168.80.1 -t 1
speed in -c 192.168.80.1 -t 1 -R
datagrams udp-out 192.168.80.1
datagrams udp-in 192.168.80.1 -R
ethtool -K eth0 tso off gso off tx off rx off 2>/dev/null
speed plain-out -c 192.168.80.1 -t 1
speed plain-in -c 192.168.80.1 -t 1 -R
ethtool -K eth0 rx on tx on gso on tso on 2>/dev/null
ip link set eth0 mtu 6000; speed jumbo-in -c 192.168.80.1 -t 1 -R; ip link set eth0 mtu 1500
speed user-out -c 10.0.2.2 -t 1
speed user-in -c 10.0.2.2 -t 1 -R
nc -ll -p 7 -e cat &
echo server ready
read -r go
ethtool -S eth0 | tr -s ' ' | grep -E 'errors|dropped|no_buffer|xo|csum' | tr '\n' ' ' | sed 's/^/stats /'; echo
# Again if it fails: the driver gives itself two ticks of the clock to look at 64 frames.
for try in 1 2 3 4 5; do ethtool -t eth0 offline >/tmp/selftest && break; done; echo selftest status $?
sed "s/^/selftest $try /" /tmp/selftest
complaints "e1000.*\(fail\|error\|hang\|reset\)"
echo all done
GUEST
)
guest_start one 200 "$mvm" --memory=256M --blk=virtio:"$LAB_TMP/one.img",ro=on \
    --net=emulated:tap0 --net=emulated,hostfwd=tcp::2007-:7 \
    --append="quiet mvm.quiet mvm.ip=eth0=192.168.80.2/24 $words"
net_served one 500
net_echo 127.0.0.1:2007 "hostfwd: 1 MiB to the guest and back is the same"
net_echo 192.168.80.2:7 "tap: 1 MiB to the guest and back is the same"
# shellcheck disable=SC2086 # a list
net_pings "pings of all sizes from the host are answered" 192.168.80.2 $sizes
guest_send one 'go\n'
guest_wait one
is "$?" 0 "one: the guest powers off"
net_read one 'pause|stats|selftest'
net_quiet one
said macs '52:54:00:6d:76:00 52:54:00:6d:76:01$' "addresses by the place of the card"
said link '1000 full 1$' "a gigabit link"
said eeprom '0x0000:.*52 54 00 6d 76 00' "the address is in the EEPROM"
said pause 'RX: on TX: on' "flow control is negotiated"
said lease '10.0.2.15/24$' "user-mode NAT gives a lease"
said 'ping eth0' 'bad:$' "pings of all sizes"
speeds out in udp-out udp-in plain-out plain-in jumbo-in user-out user-in
lossless udp-out udp-in
said 'selftest status' '0$' "ethtool -t offline passes"
for part in Register Eeprom Interrupt Loopback Link; do
    said "selftest . $part test" '.*[^0-9]0$' "ethtool -t: $part"
done

# ---- four ----
words=$(net_script four sizes="$sizes" <<'GUEST'
for nic in 0 1; do
    pings eth$nic 192.168.8$nic.1 $sizes
    speed eth$nic-out -c 192.168.8$nic.1 -t 1 -P 2
    speed eth$nic-in -c 192.168.8$nic.1 -t 1 -P 2 -R
done
nc -ll -p 7 -e cat &
echo server ready
read -r go
# Both taps are busy; the cards are reset, and the driver goes and comes back.
load 5202 -c 192.168.80.1 -R
load 5203 -c 192.168.81.1
busy eth0 eth1; echo load $?
# A new size of the rings resets the card; -r the PHY, too.
ethtool -G eth0 rx 80 tx 80; ethtool -r eth1
busy eth0 eth1; echo reset $?
modprobe -r e1000; echo removed $? left $(ls /sys/class/net | tr '\n' ' ')
stop
modprobe e1000
for nic in 0 1; do back eth$nic 192.168.8$nic.2/24 192.168.8$nic.1; done
speed again -c 192.168.80.1 -t 1
# ("Reset adapter" is what the driver does when -r takes the link from under its queue; a hang has a line of its own.)
complaints "e1000.*\(fail\|error\|hang\)"
echo all done
GUEST
)
guest_start four 200 "$mvm" --memory=512M --cpus=4 --blk=virtio:"$LAB_TMP/four.img",ro=on \
    --net=emulated:tap0 --net=emulated:tap1,doorbell=ioeventfd \
    --append="quiet mvm.quiet mvm.ip=eth0=192.168.80.2/24 mvm.ip=eth1=192.168.81.2/24 $words"
net_served four 500
net_echo 192.168.80.2:7 "doorbells exit: 1 MiB to the guest and back is the same"
net_echo 192.168.81.2:7 "doorbells are eventfds: 1 MiB to the guest and back is the same"
guest_send four 'go\n'
guest_wait four
is "$?" 0 "four: the guest powers off"
net_read four
net_quiet four
said 'ping eth0' 'bad:$' "four: pings of all sizes, doorbells exit"
said 'ping eth1' 'bad:$' "four: pings of all sizes, doorbells are eventfds"
speeds eth0-out eth0-in eth1-out eth1-in again
said load '0$' "both taps are busy"
said reset '0$' "the cards go on after a reset under load"
said removed '0 left lo *$' "the driver can be removed under load"
said 'back eth0' 'answers$' "the first tap works with the driver loaded again"
said 'back eth1' 'answers$' "so does the second"
check "the taps that were there stay" test -d /sys/class/net/tap0 -a -d /sys/class/net/tap1
