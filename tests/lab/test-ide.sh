#!/bin/sh
# IDE with Linux's ata_piix: four disks on the two channels in a guest of four vCPUs, raw and qcow2, one by the data
# port (PIO), the others by DMA; data checked from both sides, smartctl, channels reset and the driver taken away
# under load. Then a guest with one vCPU boots from a root on one.
# lab: timeout=600
# shellcheck source=tests/lab/lib/lab.sh
. "$LAB_DIR/lib/lab.sh"
# shellcheck source=tests/lab/lib/disks.sh
. "$LAB_DIR/lib/disks.sh"

mvm=$MVM_BUILD/mvm
sample_images
truncate -s 16M "$LAB_TMP/second.img"
truncate -s 200G "$LAB_TMP/huge.img" # past what 28 bits reach

words=$(script_disk "$LAB_TMP/script" <<'GUEST'
sum() { sha256sum | cut -c1-64; }
t() { echo "$(cut -d' ' -f1 /proc/uptime) at" "$@"; }
disk() { # CHANNEL UNIT: the name of the disk there; the order of names is by chance
    for port in $(ls -d /sys/bus/pci/drivers/ata_piix/0*/ata* | sed -n "$(($1 + 1))p"); do
        ls $port/host*/target*:0:$2/*/block
    done
}
verify() { # MORE...: both masters at once
    fio --offset=12M --size=256k --rw=randrw --bs=4k --iodepth=8 --ioengine=libaio --direct=1 --verify=crc32c \
        --verify_fatal=1 --minimal "$@" --name=0 --filename=/dev/$(disk 0 0) --name=1 --filename=/dev/$(disk 1 0) >>/tmp/fio 2>&1
}
disks() { ls -d /sys/block/sd* 2>/dev/null | wc -l; }
t begin
a=$(disk 0 0) c=$(disk 1 0)
for at in '0 0' '0 1' '1 0' '1 1'; do
    d=$(disk $at)
    echo disk $at $(cat /sys/block/$d/size) $(smartctl -i /dev/$d | sed -n 's/^Serial Number: *//p') \
        $(cat /sys/block/$d/device/model)
done
echo modes $(cat /sys/class/ata_device/dev*/xfer_mode)
t named
dd if=/dev/urandom bs=1M count=4 of=/tmp/r 2>/dev/null
echo guest half $(sum </tmp/r)
for d in $a $c; do
    echo host half $(dd if=/dev/$d bs=1M count=4 iflag=direct 2>/dev/null | sum)
    dd if=/tmp/r bs=256k of=/dev/$d seek=16 oflag=direct conv=fsync 2>/dev/null
done
t halves
verify && echo fio verified
t fio
# PIO. Each word that is written costs an exit: KVM does not gather those of a string instruction.
d=$(disk 0 1)
head -c 16384 /tmp/r | dd of=/dev/$d bs=16k oflag=direct conv=fsync 2>/dev/null
echo pio $(dd if=/dev/$d bs=512k count=1 iflag=direct 2>/dev/null | cmp -n 16384 - /tmp/r && echo same)
# LBA48
d=$(disk 1 1)
dd if=/tmp/r bs=64k of=/dev/$d seek=3145728 count=4 oflag=direct conv=fsync 2>/dev/null
echo beyond $(dd if=/dev/$d bs=64k skip=3145728 count=4 iflag=direct 2>/dev/null | cmp -n 262144 - /tmp/r && echo same)
smartctl -i -H -A -l error /dev/$a | grep -E '^SMART|Reallocated|No Errors Logged' | sed 's/^ */smartctl /'
blkdiscard -o 12582912 -l 65536 /dev/$a && echo trim $(dd if=/dev/$a bs=64k skip=192 count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
t cli
# Under load: soft resets (a scan by hand begins with one), then the driver taken away.
verify --loops=2 & load=$!
sleep 2
for i in 1 2 3; do for h in /sys/class/scsi_host/host*/scan; do echo "- - -" >$h; done; sleep 0.3; done
t resets
wait $load; echo reset fio $?
t load
at=$(basename $(dirname $(ls -d /sys/bus/pci/drivers/ata_piix/0*/ata1)))
fio --name=load --filename=/dev/$a --offset=12M --size=1M --rw=randread --bs=4k --iodepth=8 --ioengine=libaio --direct=1 \
    --loops=1000 --minimal >/dev/null 2>&1 & load=$!
sleep 2
echo $at >/sys/bus/pci/drivers/ata_piix/unbind; echo unbound $?
t unbound
wait $load; echo left $(disks)
echo $at >/sys/bus/pci/drivers/ata_piix/bind
n=0; while [ "$(disks)" != 4 ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done
t bound
verify && echo fio again verified
t end
dmesg | grep -E 'ata[0-9.]+: .*(timeout|failed command|exception.*frozen)' | sed 's/^/dmesg /'
echo all done
GUEST
)
guest_run ide 200 "$mvm" --memory=512M --cpus=4 --blk=emulated:"$device",engine=io_uring \
    --blk=emulated:"$LAB_TMP/second.img",serial=slave --blk=emulated:"$qcow",format=qcow2 \
    --blk=emulated:"$LAB_TMP/huge.img",hw=ide --blk=virtio:"$LAB_TMP/script",ro=on --no-reboot \
    --append="quiet panic=-1 libata.force=1.01:pio4 $words"
is "$?" 0 "the guest powers off"
text=$(guest_text ide)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said 'disk 0 0' '49152 mvm-blk-0 mvm IDE disk' "master of the first channel: size, serial number and model"
said 'disk 0 1' '32768 slave' "its slave"
said 'disk 1 0' '49152 mvm-blk-2' "master of the second channel, qcow2"
said 'disk 1 1' '419430400 mvm-blk-3' "its slave, 200 GiB"
is "$(echo "$text" | grep '^modes ' | grep -o UDMA | wc -l)" 3 "three are set to an Ultra DMA mode"
is "$(echo "$text" | grep '^modes ' | grep -o PIO | wc -l)" 1 "one, as it was told, to PIO"
is "$(echo "$text" | grep -c "^host half $host")" 2 "the guest reads what the host wrote, raw and qcow2"
said fio verified "fio finds all it wrote"
said pio same "PIO: what was written reads back"
said beyond same "48 bits of address"
said 'smartctl SMART' 'support is: Enabled' "smartctl -i"
said 'smartctl SMART' 'overall-health.*PASSED' "smartctl -H"
like "$text" '^smartctl .*Reallocated' "smartctl -A"
like "$text" '^smartctl No Errors Logged' "smartctl -l error"
said trim 0 "TRIM"
said 'reset fio' 0 "soft resets under load, and fio finds all it wrote"
said unbound 0 "the driver lets go of it under load"
said left 0 "its disks are gone"
said 'fio again' verified "the driver takes it again"
is "$(echo "$text" | grep -E '^dmesg .*(timeout|failed|frozen)')" "" "no command failed or timed out"
said all 'done' "the guest ran to the end"
guest=$(echo "$text" | sed -n 's/^guest half //p')
qemu-img convert -f qcow2 -O raw "$qcow" "$LAB_TMP/c.raw"
for file in "$raw" "$LAB_TMP/c.raw"; do
    is "$(tail -c +4194305 "$file" | head -c 4m | sha256sum | cut -c1-64)" "$guest" "the host reads what the guest wrote"
done
is "$(head -c 16384 "$LAB_TMP/second.img" | sha256sum)" "$(tail -c +4194305 "$raw" | head -c 16384 | sha256sum)" \
    "the host reads what the guest wrote by PIO"
check "the qcow2 image is whole" qemu-img check -q "$qcow"
diag "$(echo "$text" | grep ' at ')"
[ "$tap_failed" -eq 0 ] || diag "$text"
losetup -d "$device"

root_image "$LAB_TMP/root.img"
boots_from_root ide-root /dev/sda "$LAB_TMP/root.img" "" --blk=emulated:"$LAB_TMP/root.img"
