# What lab scripts of network cards share: taps and iperf3 servers on the host, a script for the guest with
# helpers of its own, and what the host reads of its output. Sourced after lib/lab.sh:
#
#     . "$LAB_DIR/lib/net.sh"
#
# The guest's script comes on a disk, as it is too long for a kernel command line. Each of its lines of output
# begins with the word that says what the rest is: "speed eth0-out 312 Mbits"; said() looks one up.
# shellcheck shell=sh
. "$LAB_DIR/lib/disks.sh"

# net_tap NAME ADDRESS/LENGTH [WORDS...]: a tap that is up, in the place of another script's; the words go to
# "ip tuntap add"
net_tap() {
    net_name=$1 net_address=$2
    shift 2
    [ ! -d "/sys/class/net/$net_name" ] || ip link del "$net_name"
    ip tuntap add dev "$net_name" mode tap "$@"
    ip addr add "$net_address" dev "$net_name"
    ip link set "$net_name" up
}

# net_servers: iperf3's servers. One has one client at a time, and one whose client has vanished with its card
# waits for it long: 5201 is for measuring, 5202 and 5203 are for load that is cut off.
net_servers() {
    ip link set lo up
    echo 4194304 | tee /proc/sys/net/core/rmem_max >/proc/sys/net/core/wmem_max
    for net_port in 5201 5202 5203; do
        iperf3 -s -D -p $net_port --logfile "$LAB_TMP/iperf3-$net_port.log"
    done
}

# net_script NAME [VARIABLE=VALUE...]: makes the disk $LAB_TMP/NAME.img of the guest's script (standard input),
# with the helpers of net_helpers and the variables in front; prints what --append needs to run it, the
# disk being the only virtio one
net_script() {
    net_image=$LAB_TMP/$1.img
    shift
    {
        net_helpers
        for net_set; do printf "%s='%s'\n" "${net_set%%=*}" "${net_set#*=}"; done
        cat
    } | script_disk "$net_image"
}

# net_helpers: functions for the guest
net_helpers() {
    cat <<'GUEST'
# speed NAME IPERF3-ARGUMENTS...: "speed NAME N Mbits", what arrived
speed() {
    local name=$1; shift
    timeout 60 iperf3 -f m "$@" >/tmp/iperf 2>&1 || sed 's/^/iperf3: /' /tmp/iperf
    sed -n "s/.* \([0-9.]*\) Mbits.sec.*receiver.*/speed $name \1 Mbits/p" /tmp/iperf | tail -n 1
}
# datagrams NAME ADDRESS [OPTIONS...]: the same with UDP, and "lost NAME (N%)". A second of it fits into the socket: what
# iperf3 does not fetch in time, with one CPU for all, says nothing of the card.
datagrams() {
    local name=$1 address=$2; shift 2
    echo 4194304 | tee /proc/sys/net/core/rmem_max >/proc/sys/net/core/wmem_max
    speed $name -c $address -t 1 -u -b 5M -l 1400 -w 2M "$@"
    sed -n "s/.*\(([0-9.e+-]*%)\).*receiver.*/lost $name \1/p" /tmp/iperf
}
# pings NIC ADDRESS SIZE...: "ping NIC bad: SIZES", those that were not answered
pings() {
    local nic=$1 address=$2 bad= size; shift 2
    for size; do ping -q -c 1 -W 5 -s $size $address >/dev/null || bad="$bad $size"; done
    echo "ping $nic bad:$bad"
}
# load PORT IPERF3-ARGUMENTS...: traffic in the background; stop ends it
load() {
    local port=$1; shift
    iperf3 -p $port -t 60 "$@" >/dev/null 2>&1 &
    loads="$loads $!"
}
stop() {
    kill $loads 2>/dev/null
    loads=
}
# busy NIC...: waits until 200 KB more went through each; fails after a minute
moved() { cat /sys/class/net/$1/statistics/[rt]x_bytes | { read -r a; read -r b; echo $((a + b)); }; }
busy() {
    local nic until tries
    for nic; do
        until=$(($(moved $nic) + 200000)) tries=600
        while [ $(moved $nic) -lt $until ]; do
            tries=$((tries - 1))
            [ $tries -gt 0 ] || return 1
            sleep 0.1
        done
    done
}
# back NIC ADDRESS/LENGTH PEER: gives a new interface its address; "back NIC answers" once the peer does
back() {
    local try
    ip addr add $2 dev $1
    ip link set $1 up
    for try in 1 2 3 4 5 6 7 8 9 10; do
        ping -q -c 1 -W 3 $3 >/dev/null && echo back $1 answers && return
    done
}
# complaints PATTERN: "dmesg LINE" for lines of the kernel's log that match, or tell of a stuck queue; "dump LINE" for
# what a driver says of its ring then
complaints() {
    dmesg | grep -i "$1\|NETDEV WATCHDOG" | sed 's/^/dmesg /'
    dmesg | grep -A 11 'Unit Hang' | tail -n 36 | sed 's/^/dump /'
}
GUEST
}

# net_served GUEST SECONDS: the guest's script comes to "echo server ready", where it waits for a line; ends the
# whole when it does not
net_served() {
    if guest_expect "$1" '^server ready' "$2"; then
        ok "$1: the guest gets as far as its server"
        return
    fi
    not_ok "$1: the guest gets as far as its server"
    diag "$(guest_text "$1" | tail -n 60)"
    guest_kill "$1"
    exit 1
}

# net_read GUEST [WORDS]: takes the guest's output for said() and others, shows what it measured (and the lines
# that begin with one of the words: "pause|stats"), and checks that it came to the last line of its script,
# which must be "echo all done"
net_read() {
    net_text=$(guest_text "$1")
    diag "$(echo "$net_text" | grep -E "^(speed|lost|iperf3:|dmesg|dump${2:+|$2})")"
    said all 'done$' "$1: the guest ran to the end" || diag "$(echo "$net_text" | tail -n 60)"
}

# said WORDS REGEX TEXT: the guest's line that begins with the words goes on so
said() {
    like "$(echo "$net_text" | grep "^$1 ")" "^$1 $2" "$3"
}

# net_quiet GUEST: the guest's complaints found nothing
net_quiet() {
    is "$(echo "$net_text" | grep '^dmesg ')" "" "$1: the driver has no complaint"
}

# speeds NAME...: each was measured and is not 0
speeds() {
    for net_what in "$@"; do
        said "speed $net_what" '[0-9.]*[1-9][0-9.]* Mbits' "iperf3: $net_what"
    done
}

# lossless NAME...: next to nothing of each test by UDP was lost
lossless() {
    for net_what in "$@"; do
        said "lost $net_what" '\([0-9][.%]' "UDP: nothing to speak of is lost, $net_what"
    done
}

# net_echo ADDRESS:PORT TEXT: a megabyte to a guest that sends everything back
net_echo() {
    head -c 1m /dev/urandom >"$LAB_TMP/out"
    timeout 60 socat -t 20 "OPEN:$LAB_TMP/out!!CREATE:$LAB_TMP/in" "TCP:$1"
    check "$2" cmp "$LAB_TMP/out" "$LAB_TMP/in"
}

# net_pings TEXT ADDRESS SIZE...: pings from the host
net_pings() {
    net_what=$1 net_address=$2 net_bad=
    shift 2
    for net_size; do
        ping -q -c 1 -W 5 -s "$net_size" "$net_address" >/dev/null || net_bad="$net_bad $net_size"
    done
    is "$net_bad" "" "$net_what"
}
