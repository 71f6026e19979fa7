#!/bin/sh
# vhost-user with Linux's drivers: our back end as a child (vhost:IMAGE, raw and qcow2) and at a socket of its own,
# killed under load; QEMU's storage daemon; virtiofsd. Data checked from both sides, driver reload, reboot. Then QEMU
# as the front end of our back end.
# lab: timeout=900
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
cd "$LAB_TMP" || exit 1

# sum FILE MIB: of its first so many MiB
sum() {
    head -c "$2M" "$1" | sha256sum | cut -c1-64
}

# background NAME SOCKET COMMAND...: starts it and waits until it listens
background() {
    rm -f "$2"
    name=$1 sock=$2
    shift 2
    "$@" >>"$LAB_TMP/$name.log" 2>&1 &
    echo $! >"$LAB_TMP/$name.bg"
    for _ in $(seq 600); do
        [ -S "$sock" ] && return 0
        sleep 0.1
    done
    return 1
}

own() {
    background own own.sock "$mvm" backend blk --socket=own.sock own.img,serial=own,queues=2
}

# What the guest does, twice: the second time is after its reboot.
mkdir shared
head -c 3M /dev/urandom >shared/from-host
cat >shared/guest.sh <<'END'
disk() {
    for b in /sys/block/vd*; do [ "$(cat "$b/serial")" != "$1" ] || echo "/dev/${b##*/}"; done
}
verify() {
    fio --name=v --filename="$(disk "$1")" --offset=4M --size=3M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio \
        --direct=1 --verify=crc32c --minimal >/tmp/fio 2>&1 && echo "$1 verified"
}
# data NAME: the host's first half is right, ours goes to the second
data() {
    echo "$1 host half $(dd if="$(disk "$1")" bs=1M count=4 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)"
    dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null
    dd if=/tmp/r of="$(disk "$1")" bs=64k seek=128 oflag=direct conv=fsync 2>/dev/null
    echo "$1 guest half $(sha256sum </tmp/r | cut -c1-64)"
}
if [ -e /mnt/second ]; then
    for d in raw qcow2 own qsd; do verify $d; done
    echo "second fs $(sha256sum </mnt/from-host | cut -c1-64)"
    poweroff -f
fi
for d in raw qcow2 own qsd; do verify $d; data $d; done
modprobe -r virtio_blk && modprobe virtio_blk
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -z "$(disk qsd)" ] || break; sleep 0.2; done
for d in raw qcow2 own qsd; do
    echo "$d reloaded $(dd if="$(disk $d)" bs=64k skip=128 count=32 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)"
done
echo "fs $(sha256sum </mnt/from-host | cut -c1-64)"
cp /tmp/r /mnt/from-guest && sync && echo "fs guest $(sha256sum </tmp/r | cut -c1-64)"
i=0
while [ ! -e /mnt/stop ]; do
    fio --name=v --filename="$(disk own)" --offset=4M --size=3M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio \
        --direct=1 --verify=crc32c --do_verify=1 --minimal >/tmp/fio 2>&1 || { echo fio failed; cat /tmp/fio; break; }
    i=$((i + 1))
    [ $i -gt 1 ] || echo "load runs"
done
echo "load verified $i"
touch /mnt/second
umount /mnt && reboot -f
END

for d in raw own qsd; do
    truncate -s 16M $d.img
    head -c 4M /dev/urandom | dd of=$d.img conv=notrunc status=none
done
head -c 4M /dev/urandom >host-half
truncate -s 16M host-half
qemu-img convert -q -f raw -O qcow2 host-half qcow2.img
own || not_ok "our back end listens"
background qsd qsd.sock qemu-storage-daemon --blockdev driver=file,node-name=f0,filename=qsd.img \
    --export type=vhost-user-blk,id=e0,node-name=f0,writable=on,addr.type=unix,addr.path=qsd.sock ||
    not_ok "the storage daemon listens"
background fsd fs.sock /usr/lib/qemu/virtiofsd --socket-path=fs.sock -o source="$LAB_TMP/shared" -o sandbox=chroot ||
    not_ok "virtiofsd listens"

guest_start user 400 "$mvm" --memory=512M --cpus=2 --blk=vhost:raw.img,serial=raw,transport=mmio \
    --blk=vhost:qcow2.img,format=qcow2,serial=qcow2,ring=packed,queues=2 --blk=vhost:own.sock,queues=2,ring=packed \
    --blk=vhost:qsd.sock --fs=vhost:fs.sock,tag=shared --append='quiet mvm.run="mount -t virtiofs shared /mnt && sh /mnt/guest.sh"'
if guest_expect user '^load runs' 240; then
    for _ in 1 2 3; do
        kill -9 "$(cat own.bg)"
        sleep 0.3
        own
        # It goes on with the new one, before that one is killed as well.
        for _ in $(seq 100); do
            [ "$(cat /proc/"$(cat own.bg)"/io 2>/dev/null | sed -n 's/^syscw: //p')" -gt 50 ] 2>/dev/null && break
            sleep 0.1
        done
    done
    # The child of the first disk as well: mvm starts another one.
    child=$(pgrep -f 'backend blk --fd=3 raw.img')
    kill -9 "$child"
else
    not_ok "the guest comes as far as the load"
fi
touch shared/stop
guest_wait user
is "$?" 0 "the guest powers off after a reboot"
text=$(guest_text user)
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
like "$text" '^load verified [1-9]' "fio --verify over a back end that is killed three times"
like "$text" 'own.sock is there again' "mvm said that the back end came back"
like "$text" 'its own back end is there again' "mvm started its own back end again"
is "$(echo "$text" | sed -n 's/^fs \([0-9a-f]*\)$/\1/p')" "$(sum shared/from-host 3)" "virtiofs: the guest reads the host's file"
is "$(echo "$text" | sed -n 's/^second fs //p')" "$(sum shared/from-host 3)" "virtiofs: also after its reboot"
is "$(sum shared/from-guest 2)" "$(echo "$text" | sed -n 's/^fs guest //p')" "virtiofs: the host reads the guest's file"
is "$(pgrep -fc 'backend blk --fd')" 0 "no child is left behind"
check "the qcow2 image is whole" qemu-img check -q qcow2.img

# Errors at the start say why.
for try in 'vhost:nobody.sock|nobody listens there' 'vhost:none.img|No such file' 'vhost:own.sock,ro=on|is for an image' \
    'vhost:shared|is a directory'; do
    out=$("$mvm" --blk="${try%%|*}" 2>&1 </dev/null)
    like "$out" "${try#*|}" "${try%%|*}: $(echo "$out" | tail -n 1)"
done

# QEMU as the front end of our back end.
work='fio --name=v --filename=/dev/vda --size=4M --offset=8M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1
    --verify=crc32c --minimal >/dev/null && echo fio verified; echo serial $(cat /sys/block/vda/serial);
    dd if=/dev/urandom bs=1M count=2 of=/tmp/r 2>/dev/null; dd if=/tmp/r of=/dev/vda bs=64k oflag=direct conv=fsync 2>/dev/null;
    echo sum $(sha256sum </tmp/r | cut -c1-64)'
guest_run qemu 240 qemu-system-x86_64 -accel kvm -M q35,memory-backend=m -object memory-backend-memfd,id=m,size=512M,share=on \
    -m 512M -cpu host -nodefaults -no-reboot -nographic -serial stdio -kernel "$MVM_IMAGES/bzImage" \
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
