#!/bin/sh
# IDE with Linux's ata_piix: four disks on the two channels in a guest of four vCPUs, raw and qcow2; data
# checked from both sides, smartctl, channels reset and the driver taken away under load. Then a guest with
# one vCPU boots from a root on one, its sectors by the data port (PIO).
#
# Beside the suite (no test- in its name) until it has run: it is written for the controller as it is now, in native
# mode, which no lab has seen yet.
# lab: timeout=900
. "$LAB_DIR/lib/lab.sh"
. "$LAB_DIR/lib/disks.sh"

mvm=$MVM_BUILD/mvm
raw=$LAB_TMP/raw.img
qcow=$LAB_TMP/disk.qcow2
truncate -s 24M "$raw"
head -c 8M /dev/urandom | dd of="$raw" conv=notrunc status=none
qemu-img convert -f raw -O qcow2 "$raw" "$qcow"
host=$(head -c 8M "$raw" | sha256sum | cut -c1-64)
truncate -s 16M "$LAB_TMP/second.img"
truncate -s 200G "$LAB_TMP/huge.img" # past what 28 bits reach

words=$(script_disk "$LAB_TMP/script" <<'GUEST'
sum() { sha256sum | cut -c1-64; }
verify() { # DISK MORE...
    dev=$1; shift
    fio --name=v --filename=/dev/$dev --offset=4M --size=2M --rw=randrw --bs=4k --iodepth=8 --ioengine=libaio \
        --direct=1 --verify=crc32c --verify_fatal=1 --minimal "$@" >/tmp/fio.$dev 2>&1
}
for d in a b c d; do
    echo disk $d $(cat /sys/block/sd$d/size) $(smartctl -i /dev/sd$d | sed -n 's/^Serial Number: *//p') \
        $(cat /sys/block/sd$d/device/model)
done
dmesg | grep -E 'ata[0-9.]+: (configured for|[0-9]+ sectors)' | sed 's/.*ata/dmesg ata/'
for d in a c; do
    echo host half $d $(dd if=/dev/sd$d bs=1M count=8 iflag=direct 2>/dev/null | sum)
    dd if=/dev/urandom bs=1M count=8 of=/tmp/r 2>/dev/null
    dd if=/tmp/r bs=256k of=/dev/sd$d seek=32 oflag=direct conv=fsync 2>/dev/null
    echo guest half $d $(sum </tmp/r)
done
for d in a c; do verify sd$d && echo fio $d verified; done
# LBA48
dd if=/tmp/r bs=64k of=/dev/sdd seek=3145728 count=4 oflag=direct conv=fsync 2>/dev/null
echo beyond $(dd if=/dev/sdd bs=64k skip=3145728 count=4 iflag=direct 2>/dev/null | cmp -n 262144 - /tmp/r && echo same)
smartctl -i -H /dev/sda | grep -E '^SMART' | sed 's/^/smartctl /'
smartctl -A /dev/sda | grep -c Reallocated | sed 's/^/attributes /'
smartctl -l error /dev/sda | grep -c 'No Errors Logged' | sed 's/^/log /'
blkdiscard -o 8388608 -l 65536 /dev/sda && echo trim $(dd if=/dev/sda bs=64k skip=128 count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
# Under load: soft resets (a scan by hand begins with one), then the driver taken away.
verify sda --loops=6 & fio=$!
for i in 1 2 3; do sleep 0.5; for h in /sys/class/scsi_host/host*/scan; do echo "- - -" >$h; done; done
wait $fio; echo reset fio $?
at=$(basename $(dirname $(ls -d /sys/bus/pci/drivers/ata_piix/0*/ata1)))
verify sda --loops=50 --ignore_error=EIO,EIO,EIO & fio=$!
sleep 0.5
echo $at >/sys/bus/pci/drivers/ata_piix/unbind; echo unbound $?
wait $fio; echo left $(ls -d /sys/block/sd* 2>/dev/null | wc -l)
echo $at >/sys/bus/pci/drivers/ata_piix/bind
n=0; while [ "$(ls -d /sys/block/sd* 2>/dev/null | wc -l)" != 4 ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done
sleep 0.5
first=$(for d in a b c d e f g h; do [ "$(cat /sys/block/sd$d/size 2>/dev/null)" != 49152 ] || echo sd$d; done | head -n 1)
verify $first && echo fio again verified
dmesg | grep -E 'ata[0-9.]+: .*(timeout|failed command|exception.*frozen)' | sed 's/^/dmesg /'
echo all done
GUEST
)
guest_run ide 420 "$mvm" --memory=512M --cpus=4 --blk=emulated:"$raw" --blk=emulated:"$LAB_TMP/second.img",serial=slave \
    --blk=emulated:"$qcow",format=qcow2 --blk=emulated:"$LAB_TMP/huge.img",hw=ide \
    --blk=virtio:"$LAB_TMP/script",ro=on --append="quiet $words"
is "$?" 0 "the guest powers off"
text=$(guest_text ide)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said 'disk a' '49152 mvm-blk-0 mvm IDE disk' "master of the first channel: size, serial number and model"
said 'disk b' '32768 slave' "its slave"
said 'disk c' '49152 mvm-blk-2' "master of the second channel, qcow2"
said 'disk d' '419430400 mvm-blk-3' "its slave, 200 GiB"
is "$(echo "$text" | grep -c '^dmesg ata.*configured for MWDMA2')" 4 "all are set to multiword DMA"
is "$(echo "$text" | grep -c "^host half [ac] $host")" 2 "the guest reads what the host wrote, raw and qcow2"
is "$(echo "$text" | grep -c '^fio [ac] verified')" 2 "fio finds all it wrote"
said beyond same "48 bits of address"
said 'smartctl SMART support' 'is: Enabled' "smartctl -i"
said 'smartctl SMART overall' '.*PASSED' "smartctl -H"
said attributes 1 "smartctl -A"
said log 1 "smartctl -l error"
said trim 0 "TRIM"
said 'reset fio' 0 "soft resets under load, and fio finds all it wrote"
said unbound 0 "the driver lets go of it under load"
said left 0 "its disks are gone"
said 'fio again' verified "the driver takes it again"
is "$(echo "$text" | grep -E '^dmesg .*(timeout|failed|frozen)')" "" "no command failed or timed out"
said all 'done' "the guest ran to the end"
guest=$(echo "$text" | sed -n 's/^guest half c //p')
qemu-img convert -f qcow2 -O raw "$qcow" "$LAB_TMP/c.raw"
is "$(tail -c +8388609 "$LAB_TMP/c.raw" | head -c 8M | sha256sum | cut -c1-64)" "$guest" "the host reads what the guest wrote"
check "the qcow2 image is whole" qemu-img check -q "$qcow"
[ "$tap_failed" -eq 0 ] || diag "$text"

root_image "$LAB_TMP/root.img"
boots_from_root ide-root /dev/sda "$LAB_TMP/root.img" libata.dma=0 --blk=emulated:"$LAB_TMP/root.img"
