#!/bin/sh
# Disks by vhost-user with Linux's driver, all in one guest: our back end as a child (vhost:IMAGE, raw by MMIO and qcow2) and
# at a socket of its own, and QEMU's storage daemon. Data checked from both sides, the driver loaded again, each back
# end killed under load, reboot. Then QEMU as the front end of our back end.
# lab: timeout=600
. "$LAB_DIR/lib/lab.sh"
. "$LAB_DIR/lib/backends.sh"
. "$LAB_DIR/lib/disks.sh"

mvm=$MVM_BUILD/mvm
cd "$LAB_TMP" || exit 1

own() {
    background own "$mvm" backend blk --socket=own.sock own.img,serial=own,queues=2
}
qsd() {
    background qsd qemu-storage-daemon --blockdev driver=file,node-name=f0,filename=qsd.img \
        --export type=vhost-user-blk,id=e0,node-name=f0,writable=on,addr.type=unix,addr.path=qsd.sock
}

# What the guest does, twice: the second time is after its reboot. Its disk is the first one.
words=$(script_disk "$LAB_TMP/script.img" <<'GUEST'
disk() {
    serial=$1
    [ "$1" != qsd ] || serial=vhost_user_blk # the storage daemon knows no other
    for b in /sys/block/vd*; do [ "$(cat "$b/serial")" != "$serial" ] || echo "/dev/${b##*/}"; done
}
# job NAME DISK DEPTH: of fio, which writes and then reads back what it wrote
job() {
    echo --name="$1" --filename="$(disk "$2")" --iodepth="$3"
}
load="fio --offset=4M --size=1M --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --verify=crc32c --minimal"
verify() {
    $load --rw=randrw $(for d in raw qcow2 own qsd; do job $d $d 16; done) >/tmp/fio 2>&1 &&
        printf '%s verified\n' raw qcow2 own qsd || cat /tmp/fio
}
# data NAME: the host's first half is right, ours goes to the second
data() {
    echo "$1 host half $(dd if="$(disk "$1")" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)"
    dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null
    dd if=/tmp/r of="$(disk "$1")" bs=64k seek=128 oflag=direct conv=fsync 2>/dev/null
    echo "$1 guest half $(sha256sum </tmp/r | cut -c1-64)"
}
if [ "$(dd if="$(disk raw)" bs=1M skip=15 count=1 2>/dev/null | head -c 5)" = again ]; then
    verify
    echo all done
    exit
fi
verify
for d in raw qcow2 own qsd; do data $d; done
modprobe -r virtio_blk && modprobe virtio_blk
for try in $(seq 300); do [ -z "$(disk qsd)" ] || break; sleep 0.2; done
for d in raw qcow2 own qsd; do
    echo "$d reloaded $(dd if="$(disk $d)" bs=64k skip=128 count=32 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)"
done
exec 3<&0
(read -r stop <&3; touch /tmp/stop) &
i=0
while [ ! -e /tmp/stop ]; do
    $load $(job raw raw 16) $(job own own 16) $(job qsd qsd 1) >/tmp/fio 2>&1 || { echo fio failed; cat /tmp/fio; break; }
    i=$((i + 1))
    [ $i -gt 1 ] || echo "load runs"
done
echo "load verified $i"
echo again | dd of="$(disk raw)" bs=1M seek=15 conv=fsync 2>/dev/null
reboot -f
GUEST
)

for d in raw own qsd; do
    truncate -s 16M $d.img
    head -c 4m /dev/urandom | dd of=$d.img conv=notrunc status=none
done
head -c 4m /dev/urandom >host-half
truncate -s 16M host-half
qemu-img convert -q -f raw -O qcow2 host-half qcow2.img
own
qsd

# gone_on NAME: the back end that was started anew works for the guest
gone_on() {
    for _ in $(seq 200); do
        [ "$(sed -n 's/^syscw: //p' "/proc/$(cat "$1.bg")/io" 2>/dev/null)" -gt 50 ] 2>/dev/null && return
        guest_alive user || return
        sleep 0.3
    done
    return 1
}
# kill_disk NAME TIMES: kills its back end under load, starts another one, and so on
kill_disk() {
    for _ in $(seq "$2"); do
        kill -9 "$(cat "$1.bg")"
        sleep 0.2
        "$1"
        gone_on "$1" || not_ok "$1: work goes on after a kill"
    done
}

guest_start user 200 "$mvm" --memory=256M --cpus=2 --blk=virtio:script.img,ro=on --blk=vhost:raw.img,serial=raw,transport=mmio \
    --blk=vhost:qcow2.img,format=qcow2,serial=qcow2,ring=packed,queues=2 --blk=vhost:own.sock,queues=2,ring=packed \
    --blk=vhost:qsd.sock --append="quiet $words"
if guest_expect user '^load runs' 400; then
    kill_disk own 2
    kill_disk qsd 1
    # The child of the first disk as well: mvm starts another one.
    kill -9 "$(pgrep -f 'backend blk --fd=3 raw.img')"
    guest_expect user 'its own back end is there again' 60
    guest_send user 'stop\n'
else
    not_ok "the guest comes as far as the load"
    diag "$(guest_text user | tail -n 30)"
    guest_kill user
fi
guest_wait user
is "$?" 0 "the guest powers off after a reboot"
text=$(guest_text user)
like "$text" '^all done' "it ran to the end" || diag "$(echo "$text" | tail -n 30)"
for d in raw qcow2 own qsd; do
    is "$(echo "$text" | grep -c "^$d verified")" 2 "$d: fio finds all it wrote, before and after the reboot"
done
qemu-img convert -f qcow2 -O raw qcow2.img qcow2.raw
is "$(echo "$text" | sed -n 's/^qcow2 host half //p')" "$(sum host-half 4)" "qcow2: the guest reads what the host wrote"
for d in raw own qsd; do
    is "$(echo "$text" | sed -n "s/^$d host half //p")" "$(sum $d.img 4)" "$d: the guest reads what the host wrote"
done
for d in raw.img qcow2.raw own.img qsd.img; do
    n=${d%.*}
    guest=$(echo "$text" | sed -n "s/^$n guest half //p")
    is "$(dd if=$d bs=1M skip=8 count=2 status=none | sha256sum | cut -c1-64)" "$guest" "$n: the host reads what the guest wrote"
    is "$(echo "$text" | sed -n "s/^$n reloaded //p")" "$guest" "$n: and so does the guest with its driver loaded again"
done
like "$text" '^load verified [1-9]' "fio --verify over back ends that are killed"
for sock in own qsd; do
    like "$text" "$sock.sock is there again" "mvm said that $sock came back"
done
like "$text" 'its own back end is there again' "mvm started its own back end again"
is "$(pgrep -fc 'backend blk --fd')" 0 "no child is left behind"
check "the qcow2 image is whole" qemu-img check -q qcow2.img

# Errors at the start say why.
mkdir directory
for try in 'vhost:nobody.sock|nobody listens there' 'vhost:none.img|No such file' 'vhost:own.sock,ro=on|is for an image' \
    'vhost:directory|is a directory'; do
    out=$("$mvm" --blk="${try%%|*}" 2>&1 </dev/null)
    like "$out" "${try#*|}" "${try%%|*}: $(echo "$out" | tail -n 1)"
done

# QEMU as the front end of our back end.
work='fio --name=v --filename=/dev/vda --size=1M --offset=8M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1
    --verify=crc32c --minimal >/dev/null && echo fio verified; echo serial $(cat /sys/block/vda/serial);
    dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k oflag=direct conv=fsync 2>/dev/null;
    echo sum $(sha256sum </tmp/r | cut -c1-64)'
guest_run qemu 240 qemu-system-x86_64 -accel kvm -M q35,memory-backend=m -object memory-backend-memfd,id=m,size=256M,share=on \
    -m 256M -cpu host -nodefaults -no-reboot -nographic -serial stdio -kernel "$MVM_IMAGES/vmlinux" \
    -initrd "$MVM_IMAGES/initramfs.cpio.gz" -chardev socket,id=c,path=own.sock \
    -device vhost-user-blk-pci,chardev=c,num-queues=2,queue-size=128 \
    -append "console=ttyS0 quiet mvm.run=\"$(one_line "$work")\""
text=$(guest_text qemu)
like "$text" '^fio verified' "QEMU's guest: fio finds all it wrote"
like "$text" '^serial own' "QEMU's guest: the serial number is ours"
is "$(sum own.img 2)" "$(echo "$text" | sed -n 's/^sum //p')" "QEMU's guest: the host reads what it wrote"
kill "$(cat own.bg)"
wait "$(cat own.bg)"
is "$?" 0 "our back end ends on SIGTERM"
check "and leaves no socket behind" test ! -e own.sock
kill "$(cat qsd.bg)"
