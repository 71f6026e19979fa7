#!/bin/sh
# The emulated 82540EM with another driver than Linux's: iPXE's, which polls and knows nothing of this machine. iPXE's
# image starts from a PC's firmware, which mvm does not have; bios.S is as much of one as it takes.
# lab: timeout=300
. "$LAB_DIR/lib/lab.sh"

image=/boot/ipxe.lkrn
[ -f $image ] || skip_all "no $image: Debian's package ipxe is not installed"

mkdir "$LAB_TMP/www"
head -c 1000001 /dev/urandom >"$LAB_TMP/www/big"
word=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
printf '#!ipxe\necho SCRIPT %s\n' "$word" >"$LAB_TMP/www/script"
busybox httpd -p 127.0.0.1:8000 -h "$LAB_TMP/www"

# ipxe NAME COMMANDS MVM-ARGUMENTS...: iPXE runs the commands, and where one fails, the next.
ipxe() {
    ipxe_name=$1 ipxe_commands=$2
    shift 2
    guest_run "$ipxe_name" 60 "$MVM_BUILD/mvm" --kernel="$MVM_BUILD/tests/lab/bios.elf" --initrd=$image --memory=64M \
        --cmdline="$ipxe_commands" "$@"
}

# errors NAME: what iPXE's driver calls an error, other than two of this card's ways. It sets bit 25 of TXDCTL, on later
# cards the queue's enable and here a threshold, so TXD_LOW comes, which it does not know (3c654003). And it leaves
# flow control off, so a burst may overrun its eight buffers and the card's FIFO: RXO (2a654006). TCP sends that again.
errors() {
    guest_text "$1" | grep -o 'http://ipxe.org/..654...' | grep -v -e 3c654003 -e 2a654006
}

# shellcheck disable=SC2016 # iPXE's variables
ipxe one 'dhcp net0 && echo LEASE ${net0/ip} ${net0/netmask} ${net0/gateway} ; ifstat net0 ;
    ifclose net0 ; dhcp net0 && echo AGAIN ${net0/ip} ;
    imgfetch http://10.0.2.2:8000/big && imgstat ; chain http://10.0.2.2:8000/script ; ifstat net0 ; exit' --net=emulated:user
is $? 0 "the machine powers off when iPXE ends"
guest_said one '^net0: 52:54:00:6d:76:00 using 82540em on 0000:00:01\.0 \(open\)$' "iPXE's driver takes the card, with its address"
guest_said one '^ *\[Link:up, ' "the link is up"
guest_said one '^LEASE 10\.0\.2\.15 255\.255\.255\.0 10\.0\.2\.2$' "a lease of the user-mode NAT"
guest_said one '^AGAIN 10\.0\.2\.15$' "once more when the card was closed and opened again"
guest_said one '^big : 1000001 bytes' "a megabyte by HTTP"
guest_said one "^SCRIPT $word\$" "a script by HTTP, which runs"
is "$(errors one)" "" "the driver sees no error"

# mvm's own interrupt controllers and timer, two cards, a doorbell that is an eventfd
# shellcheck disable=SC2016
ipxe two 'ifstat ; dhcp net0 && echo LEASE0 ${net0/ip} ; imgfetch http://10.0.2.2:8000/big && imgstat ; ifclose net0 ;
    dhcp net1 && echo LEASE1 ${net1/ip} ; chain http://10.0.3.2:8000/script ; ifstat ; reboot' \
    --irqchip=user --net=emulated,doorbell=ioeventfd --net=emulated,net=10.0.3.0/24 --no-reboot
is $? 0 "two: iPXE reboots the machine, which ends it"
guest_said two '^net1: 52:54:00:6d:76:01 using 82540em on 0000:00:02\.0 ' "two: the driver takes both cards"
guest_said two '^LEASE0 10\.0\.2\.15$' "two: a lease for the first"
guest_said two '^big : 1000001 bytes' "two: a megabyte by HTTP"
guest_said two '^LEASE1 10\.0\.3\.15$' "two: a lease for the second"
guest_said two "^SCRIPT $word\$" "two: a script by HTTP"
is "$(errors two)" "" "two: the driver sees no error"
