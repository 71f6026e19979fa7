#!/bin/sh
# The first disk, checked from both sides: what the host wrote the guest reads, and the other way round.
# lab: timeout=300
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
disk=$LAB_TMP/disk.img
data=$LAB_TMP/data.img
cp "$MVM_IMAGES/disk.img" "$disk"
truncate -s 16M "$data"
head -c 8m /dev/urandom | dd of="$data" conv=notrunc status=none
host=$(head -c 8m "$data" | sha256sum | cut -c1-64)

# The guest checks the file system's own sums, the host's half of the second disk, fills the other half.
# shellcheck disable=SC2016 # the guest expands these
work='mount /dev/vda /mnt && cd /mnt && sha256sum -c SHA256SUMS && echo sums fine;
    echo host half $(dd if=/dev/vdb bs=1M count=8 iflag=direct 2>/dev/null | sha256sum | cut -c1-64);
    dd if=/dev/urandom bs=1M count=8 of=/tmp/r 2>/dev/null;
    dd if=/tmp/r bs=64k of=/dev/vdb seek=128 oflag=direct conv=fsync 2>/dev/null;
    echo guest half $(sha256sum </tmp/r | cut -c1-64);
    cp /tmp/r /mnt/from-guest && sync;
    echo serial $(cat /sys/block/vdb/serial); cat /sys/class/misc/hw_random/rng_current;
    cd / && umount /mnt;
    fio --name=v --filename=/dev/vdb --offset=4M --rw=randwrite --bs=4k --size=2M --iodepth=16
        --ioengine=libaio --direct=1 --verify=crc32c --minimal >/dev/null && echo fio verified'
guest_run disk 240 "$mvm" --memory=512M --cpus=2 --blk=virtio:"$disk" --blk=virtio:"$data",serial=second \
    --rng=virtio --append="quiet mvm.run=\"$(one_line "$work")\""
is "$?" 0 "the guest powers off"
text=$(guest_text disk)
like "$text" '^sums fine$' "the guest reads the host's file system whole"
like "$text" "^host half $host\$" "the guest reads what the host wrote"
like "$text" '^serial second$' "the disk's serial number is the flag's"
like "$text" '^virtio_rng' "the guest's entropy comes from virtio-rng"
like "$text" '^fio verified$' "fio finds all it wrote"
guest=$(echo "$text" | sed -n 's/^guest half //p')
is "$(tail -c 8m "$data" | sha256sum | cut -d' ' -f1)" "$guest" "the host reads what the guest wrote"
check "the file system is clean" e2fsck -fn "$disk"
mkdir -p "$LAB_TMP/mnt"
check "the host mounts it" mount -o loop,ro "$disk" "$LAB_TMP/mnt"
is "$(sha256sum <"$LAB_TMP/mnt/from-guest" | cut -d' ' -f1)" "$guest" "the guest's file is on it"
umount "$LAB_TMP/mnt"

before=$(sha256sum <"$data")
guest_run readonly 180 "$mvm" --memory=512M --blk=virtio:"$data",ro=on \
    --append='quiet mvm.run="echo ro $(cat /sys/block/vda/ro); dd if=/dev/zero of=/dev/vda count=1 2>&1"'
like "$(guest_text readonly)" '^ro 1$' "ro=on: the guest knows"
is "$(sha256sum <"$data")" "$before" "ro=on: nothing was written"

# A disk that fills up under the guest: an I/O error there, and mvm goes on.
mkdir -p "$LAB_TMP/small"
mount -t tmpfs -o size=4m none "$LAB_TMP/small"
truncate -s 64M "$LAB_TMP/small/sparse.img"
work='dd if=/dev/zero of=/dev/vda bs=1M count=16 oflag=direct 2>&1 | grep -o Input/output.error | head -n 1;
    dd if=/dev/vda of=/dev/null bs=1M count=1 2>/dev/null && echo still reads'
guest_run full 180 "$mvm" --memory=512M --blk=virtio:"$LAB_TMP/small/sparse.img" \
    --append="quiet mvm.run=\"$(one_line "$work")\""
is "$?" 0 "a full host: the guest powers off as ever"
like "$(guest_text full)" '^Input/output error$' "a full host: the guest gets an I/O error"
like "$(guest_text full)" '^still reads$' "a full host: the disk still reads"
umount "$LAB_TMP/small"
