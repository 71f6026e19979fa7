#!/bin/sh
# Disks and sockets that the host's kernel serves, in one guest: vhost-scsi on LIO file targets over PCI and
# MMIO, a vDPA disk (qemu-storage-daemon through VDUSE), vhost-vsock. Data is verified, drivers go and
# come back under load, the guest reboots. And what a second VM is told that wants the same things.
# lab: timeout=600
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
lio=/sys/kernel/config/target

refused() { # TEXT REGEX FLAG...
    text=$1 wanted=$2
    shift 2
    said=$(timeout 120 "$mvm" --memory=128M "$@" 2>&1)
    is "$?" 1 "$text: refused at the start"
    like "$said" "$wanted" "$text: says why, and the way out"
}

refused "no vhost-scsi" '--blk=vhost:naa.*no /dev/vhost-scsi.*modprobe vhost_scsi' --blk=vhost:naa.6001405000000001
refused "no vDPA device" 'no /dev/vhost-vdpa-0.*modprobe vhost_vdpa.*vdpa dev add' --blk=vhost:/dev/vhost-vdpa-0

# --- LIO: two targets, each with one LUN on a file ---
modprobe -a target_core_mod target_core_file vhost_scsi vduse vhost_vdpa
mount -t configfs none /sys/kernel/config 2>/dev/null
mkdir -p /run/disks
for i in 1 2; do
    truncate -s 64M /run/disks/lio$i
    mkdir -p "$lio/core/fileio_0/d$i"
    echo "fd_dev_name=/run/disks/lio$i,fd_dev_size=67108864" >"$lio/core/fileio_0/d$i/control"
    echo 1 >"$lio/core/fileio_0/d$i/enable"
    tpg=$lio/vhost/naa.600140500000000$i/tpgt_1
    mkdir -p "$tpg/lun/lun_0"
    echo "naa.600140510000000$i" >"$tpg/nexus"
    ln -s "$lio/core/fileio_0/d$i" "$tpg/lun/lun_0/disk"
done
[ -e /dev/vhost-scsi ] || mknod /dev/vhost-scsi c 10 "$(sed -n 's/ vhost-scsi$//p' /proc/misc)"

# --- VDUSE: a file behind qemu-storage-daemon, as a vDPA device ---
truncate -s 64M /run/disks/vduse
qemu-storage-daemon --blockdev driver=file,filename=/run/disks/vduse,node-name=f0 \
    --export vduse-blk,id=e0,node-name=f0,name=vd0,writable=on,num-queues=2,queue-size=128 \
    --chardev socket,id=c,path=/run/disks/qmp,server=on,wait=off --monitor chardev=c >"$LAB_TMP/qsd.log" 2>&1 &
for _ in $(seq 100); do
    vdpa dev add name vd0 mgmtdev vduse 2>"$LAB_TMP/vdpa.log" && break
    sleep 0.1
done
for _ in $(seq 100); do
    [ -e /dev/vhost-vdpa-0 ] && break
    sleep 0.1
done
check "the vDPA device is there" test -c /dev/vhost-vdpa-0
refused "a target that is not there" 'no target naa.6001405999.*vhost create' --blk=vhost:naa.6001405999
refused "a disk as a network card" '/dev/vhost-vdpa-0 is a disk \(--blk\).*wants a network card' \
    --net=vhost:/dev/vhost-vdpa-0
refused "packed rings on vDPA" 'ring=packed' --blk=vhost:/dev/vhost-vdpa-0,ring=packed

# --- the guest ---
script=$LAB_TMP/script.img
cat >"$script" <<'GUEST'
verify() { # NAME DEVICE
    [ -b "$2" ] || { echo "no disk $2"; return; }
    fio --name=v --filename="$2" --rw=randrw --bs=4k-64k --size=16M --io_size=4M --iodepth=16 --ioengine=libaio \
        --direct=1 --verify=crc32c --verify_backlog=64 >/tmp/fio 2>&1 && echo "verify $1 good" || cat /tmp/fio
}
model() { cat "/sys/block/$1/device/model" 2>/dev/null; }
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda ] && [ -b /dev/sdb ] && break; sleep 1; done
if [ "$(head -c 5 /dev/vdb)" = again ]; then
    echo "second boot"
    dd if=/dev/sdb bs=1M skip=32 count=8 2>/dev/null | sha256sum | sed 's/^/after /'
    verify again-pci /dev/sda; verify again-vdpa /dev/vdb
    echo all done
    exit
fi
echo disks "$(ls /sys/block | grep -E '^(sd|vd)' | tr '\n' ' ')"
echo model "$(model sda)"
echo sizes $(cat /sys/block/sda/size /sys/block/sdb/size /sys/block/vdb/size)
echo queues $(ls /sys/block/vdb/mq | wc -l) $(ls /sys/block/sda/mq | wc -l)
verify scsi-pci /dev/sda
verify scsi-mmio /dev/sdb
verify vdpa /dev/vdb
# The other way round: what the host wrote is read.
echo "sum vdb $(dd if=/dev/vdb bs=1M skip=40 count=4 2>/dev/null | sha256sum)"
socat VSOCK-LISTEN:1234,fork EXEC:cat &
dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
echo "data $(sha256sum </tmp/data)"
socat -u OPEN:/tmp/data VSOCK-CONNECT:2:555 && echo vsock sent
echo vsock ready
read -r word
for i in 1 2 3 4 5 6 7 8 9 10; do [ "$(cat /sys/block/vdb/size)" = 262144 ] && break; sleep 1; done
echo resized $(cat /sys/block/vdb/size)
# Drivers go while their disks are busy, and come back.
host=$(basename "$(readlink -f /sys/block/sda/device/../../..)")
disk=$(basename "$(readlink -f /sys/block/vdb/device)")
loads=
for d in sda vdb; do
    fio --name=l --thread --filename=/dev/$d --rw=randread --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
        --time_based --runtime=300 >/dev/null 2>&1 &
    loads="$loads $!"
done
for d in sda vdb; do
    for i in $(seq 100); do [ "$(cut -c 1-200 /sys/block/$d/inflight | tr -dc 1-9)" ] && break; sleep 0.1; done
done
echo "$host" >/sys/bus/virtio/drivers/virtio_scsi/unbind && echo unbound scsi
echo "$disk" >/sys/bus/virtio/drivers/virtio_blk/unbind && echo unbound blk
kill -9 $loads; wait $loads
echo "$host" >/sys/bus/virtio/drivers/virtio_scsi/bind
echo "$disk" >/sys/bus/virtio/drivers/virtio_blk/bind
devices=/sys/bus/virtio/devices
for i in $(seq 50); do [ -d $devices/$disk/block/vd* ] && [ -d $devices/$host/host*/target*/*/block/sd* ] && break; sleep 0.2; done
sdisk=$(ls $devices/$host/host*/target*/*/block) vdisk=$(ls $devices/$disk/block)
verify rebound-scsi /dev/$sdisk
verify rebound-vdpa /dev/$vdisk
dd if=/dev/sdb bs=1M skip=32 count=8 2>/dev/null | sha256sum | sed 's/^/before /'
[ -b /dev/$vdisk ] && echo again | dd of=/dev/$vdisk conv=notrunc,fsync 2>/dev/null
sync
reboot -f
GUEST
size=$(wc -c <"$script")
truncate -s 64K "$script"
head -c 8m /dev/urandom | dd of=/run/disks/lio2 bs=1M seek=32 conv=notrunc 2>/dev/null
head -c 4m /dev/urandom | dd of=/run/disks/vduse bs=1M seek=40 conv=notrunc 2>/dev/null
sums=$(dd if=/run/disks/vduse bs=1M skip=40 count=4 2>/dev/null | sha256sum)
sum2=$(dd if=/run/disks/lio2 bs=1M skip=32 count=8 2>/dev/null | sha256sum)
socat -u VSOCK-LISTEN:555 CREATE:"$LAB_TMP/from-guest" &

guest_start one 150 "$mvm" --memory=256M --cpus=2 --blk=virtio:"$script",ro=on --blk=vhost:/dev/vhost-vdpa-0 \
    --blk=vhost:naa.6001405000000001,queues=2 --blk=vhost:naa.6001405000000002,transport=mmio --vsock=vhost,cid=42 \
    --append="quiet mvm.ip=off mvm.run=\"head -c $size /dev/vda >/tmp/s; sh /tmp/s\""
if guest_expect one '^vsock ready' 300; then
    ok "the guest gets as far as its sockets"
    head -c 1m /dev/urandom >"$LAB_TMP/out"
    timeout 60 socat -t 10 "OPEN:$LAB_TMP/out!!CREATE:$LAB_TMP/in" VSOCK-CONNECT:42:1234
    check "vsock: 1 MiB to the guest and back is the same" cmp "$LAB_TMP/out" "$LAB_TMP/in"
    printf '%s\n' '{"execute":"qmp_capabilities"}' \
        '{"execute":"block_resize","arguments":{"node-name":"f0","size":134217728}}' |
        timeout 10 socat -t 2 - UNIX-CONNECT:/run/disks/qmp >"$LAB_TMP/qmp.log"
    refused "a cid in use" 'cid=42 is in use.*cid=N' --vsock=vhost,cid=42
    refused "a target in use" 'naa.6001405000000001 is in use' --blk=vhost:naa.6001405000000001
    refused "a vDPA device in use" '/dev/vhost-vdpa-0 is in use' --blk=vhost:/dev/vhost-vdpa-0
    ! guest_alive one || guest_send one 'go\n'
else
    not_ok "the guest gets as far as its sockets"
    diag "$(guest_text one | tail -n 40)"
    guest_kill one
fi
guest_wait one
is "$?" 0 "the guest powers off"
text=$(guest_text one)
said() { # WORD REGEX TEXT: the guest's line that begins with the word matches
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said disks 'sda sdb vda vdb *$' "all disks are there"
said model 'd1|FILEIO' "the SCSI disk is LIO's"
said sizes '131072 131072 131072$' "sizes"
said queues '2 2$' "queues as the backend has them, and as asked for"
for what in scsi-pci scsi-mmio vdpa rebound-scsi rebound-vdpa again-pci again-vdpa; do
    said "verify $what" 'good$' "fio --verify: $what"
done
is "$(echo "$text" | sed -n 's/^sum vdb //p')" "$sums" "vDPA: what the host wrote is read"
is "$(echo "$text" | sed -n 's/^before //p')" "$sum2" "vhost-scsi: what the host wrote is read"
is "$(echo "$text" | sed -n 's/^after //p')" "$sum2" "and read again after a reboot"
said resized '262144$' "vDPA: a disk that grows is seen to"
said unbound 'scsi$' "the SCSI driver leaves under load"
is "$(sha256sum <"$LAB_TMP/from-guest" || echo none)" "$(echo "$text" | sed -n 's/^data //p')" "vsock: the guest's MiB arrives"
said all 'done$' "the guest ran to the end"
