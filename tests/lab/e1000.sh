#!/bin/sh
# The emulated e1000 with Linux's driver: a tap with doorbells that exit, user-mode NAT, and a tap with
# doorbells that are eventfds, in one guest; with one and with four processors.
# lab: timeout=900
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
ip link set lo up
for i in 0 2; do
    ip tuntap add dev tap$i mode tap
    ip addr add 192.168.8$i.1/24 dev tap$i
    ip link set tap$i up
done
iperf3 -s -D --logfile "$LAB_TMP/iperf3.log"

# What a guest does, too long for its command line: it comes on a disk.
common=$LAB_TMP/common
cat >"$common" <<'GUEST'
speed() { # NAME ARGUMENTS...: "speed NAME N Mbits"
    name=$1; shift
    timeout 30 iperf3 -f m "$@" >/tmp/iperf 2>&1 || sed 's/^/iperf3: /' /tmp/iperf
    sed -n "s/.* \([0-9.]*\) Mbits.sec.*receiver.*/speed $name \1 Mbits/p" /tmp/iperf | tail -n 1
}
pings() {
    for nic in 0 2; do
        bad=
        for size in 0 1 17 18 56 511 1000 1472 1473 2048 8000; do
            ping -q -c 1 -W 3 -s $size 192.168.8$nic.1 >/dev/null || bad="$bad $size"
        done
        echo "ping eth$nic bad:$bad"
    done
}
selftest() { # NIC
    ethtool -t $1 offline >/tmp/selftest; echo selftest $1 status $?
    sed "s/^/selftest $1 /" /tmp/selftest
}
GUEST

cat "$common" - >"$LAB_TMP/four" <<'GUEST'
waitnet eth1 30 | sed 's/^/lease /'
cd /sys/class/net
echo macs $(cat eth0/address eth1/address eth2/address)
echo link $(cat eth0/speed) $(cat eth0/duplex) $(cat eth0/carrier)
lspci -n -d 8086:100e -v | grep -E '^[0-9]|Subsystem|Memory|I/O|Flags' | sed 's/^/pci /'
ethtool -e eth0 length 6 | tail -n 1 | sed 's/^/eeprom /'
ethtool -a eth0 | grep '^[RT]X:' | tr -s '\t\n' '  ' | sed 's/^/pause /'; echo
pings
for nic in 0 2; do
    speed eth$nic-out -c 192.168.8$nic.1 -t 2 -P 2
    speed eth$nic-in -c 192.168.8$nic.1 -t 2 -P 2 -R
    speed eth$nic-udp-out -c 192.168.8$nic.1 -t 1 -u -b 5M -l 1400
    grep -o '([0-9.e+-]*%).*receiver' /tmp/iperf | sed "s/^/eth$nic udp out lost /"
    speed eth$nic-udp-in -c 192.168.8$nic.1 -t 1 -u -b 5M -l 1400 -R
    grep -o '([0-9.e+-]*%).*receiver' /tmp/iperf | sed "s/^/eth$nic udp in lost /"
done
ethtool -K eth0 tso off gso off tx off rx off 2>/dev/null
speed eth0-plain-out -c 192.168.80.1 -t 1
speed eth0-plain-in -c 192.168.80.1 -t 1 -R
ethtool -K eth0 rx on tx on gso on tso on 2>/dev/null
ip link set eth0 mtu 6000; speed eth0-jumbo-in -c 192.168.80.1 -t 1 -R; ip link set eth0 mtu 1500
speed user-out -c 10.0.2.2 -t 1
speed user-in -c 10.0.2.2 -t 1 -R
selftest eth0
ip link set eth0 up
# The driver goes while both taps are busy, and comes back.
iperf3 -c 192.168.80.1 -t 20 -R >/dev/null 2>&1 &
iperf3 -c 192.168.82.1 -t 20 >/dev/null 2>&1 &
sleep 2
modprobe -r e1000; echo removed $? left $(ls /sys/class/net | tr '\n' ' ')
modprobe e1000
kill %1 %2 2>/dev/null
for nic in 0 2; do
    ip addr add 192.168.8$nic.2/24 dev eth$nic
    ip link set eth$nic up
    for try in 1 2 3 4 5 6 7 8 9; do
        ping -q -c 1 -W 3 192.168.8$nic.1 >/dev/null && echo eth$nic is back && break
    done
done
speed eth0-again -c 192.168.80.1 -t 1
speed eth2-again -c 192.168.82.1 -t 1
ethtool -S eth0 | tr -s ' ' | grep -E 'errors|dropped|no_buffer|xo|csum' | tr '\n' ' ' | sed 's/^/stats /'; echo
dmesg | grep -i "e1000.*\(fail\|error\|hang\|reset\)\|NETDEV WATCHDOG" | sed 's/^/dmesg /'
echo all done
GUEST

cat "$common" - >"$LAB_TMP/one" <<'GUEST'
pings
for nic in 0 2; do
    speed eth$nic-out -c 192.168.8$nic.1 -t 1
    speed eth$nic-in -c 192.168.8$nic.1 -t 1 -R
done
dmesg | grep -i "e1000.*\(fail\|error\|hang\|reset\)\|NETDEV WATCHDOG" | sed 's/^/dmesg /'
echo all done
GUEST

# run CPUS SCRIPT SECONDS
run() {
    size=$(wc -c <"$LAB_TMP/$2")
    truncate -s 64K "$LAB_TMP/$2"
    guest_run "$2" "$3" "$mvm" --memory=512M --cpus="$1" --blk=virtio:"$LAB_TMP/$2",ro=on \
        --net=emulated:tap0 --net=emulated --net=emulated:tap2,doorbell=ioeventfd \
        --append="quiet mvm.ip=eth0=192.168.80.2/24 mvm.ip=eth2=192.168.82.2/24 \
mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""
    is "$?" 0 "$1 processors: the guest powers off"
    text=$(guest_text "$2")
    diag "$(echo "$text" | grep -E '^(speed|iperf3:|pause|stats|pci|dmesg)')"
    said all 'done$' "$1 processors: the guest ran to the end" || diag "$(echo "$text" | tail -n 40)"
    said 'ping eth0' 'bad:$' "pings of all sizes, doorbells exit"
    said 'ping eth2' 'bad:$' "pings of all sizes, doorbells are eventfds"
    is "$(echo "$text" | grep '^dmesg ')" "" "the driver has no complaint"
    for what in $4; do
        said "speed $what" '[0-9.]*[1-9][0-9.]* Mbits' "iperf3: $what"
    done
}
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}

run 4 four 300 "eth0-out eth0-in eth2-out eth2-in eth0-udp-out eth0-udp-in eth2-udp-out eth2-udp-in \
    eth0-plain-out eth0-plain-in eth0-jumbo-in user-out user-in eth0-again eth2-again"
said macs '52:54:00:6d:76:00 52:54:00:6d:76:01 52:54:00:6d:76:02$' "addresses by the place of the card"
said link '1000 full 1$' "a gigabit link"
said eeprom '0x0000:.*52 54 00 6d 76 00' "the address is in the EEPROM"
said pause 'RX: on TX: on' "flow control is negotiated"
said lease '10.0.2.15/24$' "user-mode NAT gives a lease"
for nic in 0 2; do
    said "eth$nic udp out" 'lost \([0-9][.%]' "UDP out, eth$nic: nothing to speak of is lost"
    said "eth$nic udp in" 'lost \([0-9][.%]' "UDP in, eth$nic: nothing to speak of is lost"
done
is "$(echo "$text" | grep '^selftest eth0 status')" "selftest eth0 status 0" "ethtool -t offline passes" ||
    diag "$(echo "$text" | grep '^selftest')"
for part in Register Eeprom Interrupt Loopback Link; do
    said "selftest eth0 $part test" '.*[^0-9]0$' "ethtool -t: $part"
done
said removed '0 left lo *$' "the driver can be removed under load"
said eth0 'is back$' "the first tap works with the driver loaded again"
said eth2 'is back$' "so does the second"

run 1 one 120 "eth0-out eth0-in eth2-out eth2-in"
check "the taps that were there stay" test -d /sys/class/net/tap0 -a -d /sys/class/net/tap2
