#!/bin/sh
# A network card and a file system by vhost-user with Linux's drivers, in one guest: DPDK's testpmd, which answers pings, and
# virtiofsd. The card's driver loaded again, testpmd killed, reboot, and a guest whose virtiofsd is gone.
# lab: timeout=600 tools=dpdk
. "$LAB_DIR/lib/lab.sh"
. "$LAB_DIR/lib/backends.sh"

mvm=$MVM_BUILD/mvm
cd "$LAB_TMP" || exit 1

# It polls all the time, hence the lowest priority; with two threads on whatever CPUs there are.
pmd() {
    background pmd nice -n 19 "$LAB_TMP/dpdk/testpmd" --no-huge -m 64 --no-pci --no-telemetry --no-shconf \
        --lcores 0@0,1@0 --vdev net_vhost0,iface=pmd.sock,queues=1 -- --forward-mode=icmpecho --total-num-mbufs=2048
}
fsd() {
    background fs /usr/lib/qemu/virtiofsd --socket-path=fs.sock -o source="$LAB_TMP/shared" -o sandbox=chroot
}

# What the guest does, twice: the second time is after its reboot. The files are how it and we tell each other how far we are.
mkdir shared
head -c 3m /dev/urandom >shared/from-host
cat >shared/guest.sh <<'END'
pings() { # TEXT
    [ ! -e /mnt/no-card ] || return
    bad=
    for size in 0 17 56 1000 1472; do
        ping -q -c 1 -W 10 -s $size 192.168.90.1 >/dev/null || bad="$bad $size"
    done
    echo "pings $1 bad:$bad"
}
# until_ COMMAND: at most a minute
until_() {
    for _ in $(seq 300); do eval "$1" && return; sleep 0.2; done
    echo "in vain: $1"
}
if [ -e /mnt/second ]; then
    pings reboot
    echo "second fs $(sha256sum </mnt/from-host | cut -c1-64)"
    touch /mnt/done
    read -r word
    echo "alive without virtiofsd"
    poweroff -nf # it must not sync: the file system waits for its daemon for ever
fi
pings first
if [ ! -e /mnt/no-card ]; then
    modprobe -r virtio_net && modprobe virtio_net
    until_ '[ -d /sys/class/net/eth0 ]'
    ip addr add 192.168.90.2/24 dev eth0; ip link set eth0 up
fi
pings reload
echo "fs $(sha256sum </mnt/from-host | cut -c1-64)"
dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null
cp /tmp/r /mnt/from-guest && sync && echo "fs guest $(sha256sum </tmp/r | cut -c1-64)"
touch /mnt/first
until_ '[ -e /mnt/pmd ]'
pings killed
touch /mnt/second
umount /mnt && reboot -f
END

fsd
card=--net=vhost:./pmd.sock
# A copy: DPDK loads no driver from below a directory that all may write to, as /tmp, where this tree may be.
cp -r "$LAB_TOOLS/dpdk" "$LAB_TMP/dpdk" 2>/dev/null
if [ ! -x "$LAB_TMP/dpdk/testpmd" ]; then
    skip "DPDK's testpmd" "it cannot be had (lib/get-dpdk.sh)"
    touch shared/no-card
    card=
fi
[ -z "$card" ] || pmd

# there FILE: the guest has made it
there() {
    for _ in $(seq 1000); do
        [ ! -e "shared/$1" ] || return 0
        guest_alive user || return 1
        sleep 0.3
    done
    return 1
}

# shellcheck disable=SC2086 # a flag, or none
guest_start user 200 "$mvm" --memory=256M --cpus=2 --fs=vhost:fs.sock,tag=shared $card \
    --append='quiet mvm.ip=192.168.90.2/24 mvm.run="mount -t virtiofs shared /mnt && cp /mnt/guest.sh /tmp/ && sh /tmp/guest.sh"'
if there first; then
    if [ -n "$card" ]; then
        kill -9 "$(cat pmd.bg)"
        pmd
        guest_expect user 'pmd.sock is there again' 60
    fi
    touch shared/pmd
    if there 'done'; then
        kill -9 "$(cat fs.bg)"
        guest_expect user 'fs.sock: it has hung up' 60
        ! guest_alive user || guest_send user 'go\n'
    fi
fi
guest_wait user
is "$?" 0 "the guest powers off after a reboot"
text=$(guest_text user)
[ -z "$card" ] || like "$text" "pmd.sock is there again" "mvm said that pmd came back"
for when in ${card:+first reload killed reboot}; do
    is "$(echo "$text" | sed -n "s/^pings $when //p")" "bad:" "testpmd answers pings: $when"
done
is "$(echo "$text" | sed -n 's/^fs \([0-9a-f]*\)$/\1/p')" "$(sum shared/from-host 3)" "virtiofs: the guest reads the host's file"
is "$(echo "$text" | sed -n 's/^second fs //p')" "$(sum shared/from-host 3)" "virtiofs: also after its reboot"
is "$(sum shared/from-guest 2)" "$(echo "$text" | sed -n 's/^fs guest //p')" "virtiofs: the host reads the guest's file"
like "$text" 'fs.sock: it has hung up$' "virtiofsd is gone: mvm says so"
like "$text" '^alive without virtiofsd' "and the guest lives"
is "$(echo "$text" | grep '^in vain')" "" "nothing was waited for in vain"
[ -z "$card" ] || kill "$(cat pmd.bg)"
