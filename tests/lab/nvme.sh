#!/bin/sh
# NVMe with Linux's driver: two controllers in a guest of four vCPUs, one a raw image with doorbells by
# ioeventfd, one qcow2 with doorbells by exit; data checked from both sides, nvme-cli and smartctl, the
# controllers reset and the driver taken away under load. Then a guest boots from a root on one, without
# messages (INTx), and one with a single vCPU does without shadow doorbells.
#
# Beside the suite (no test- in its name) until it has run to its end: on the one, overloaded, machine where it
# ran, all went well up to the resets under load, in which the guest's time was over.
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

words=$(script_disk "$LAB_TMP/script" <<'GUEST'
n0=/dev/nvme0n1 n1=/dev/nvme1n1
[ "$(cat /sys/class/nvme/nvme0/serial | tr -d ' ')" = mvm-blk-0 ] || { n0=/dev/nvme1n1; n1=/dev/nvme0n1; }
c0=${n0%n1} c1=${n1%n1}
of() { echo "${1#/dev/}"; }
bdf() { basename "$(readlink -f "/sys/class/nvme/$(of "$1")/device")"; }
sum() { sha256sum | cut -c1-64; }
verify() { # DEVICE MORE...
    dev=$1; shift
    fio --name=v --filename="$dev" --offset=4M --size=2M --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio \
        --direct=1 --verify=crc32c --verify_fatal=1 --minimal "$@" >/tmp/fio.$(of "$dev") 2>&1
}
echo serial $(cat /sys/class/nvme/$(of $c0)/serial) $(cat /sys/class/nvme/$(of $c1)/serial)
echo sectors $(cat /sys/block/$(of $n0)/size) $(cat /sys/block/$(of $n1)/size)
echo queues $(ls /sys/block/$(of $n0)/mq | wc -l) $(ls /sys/block/$(of $n1)/mq | wc -l)
for n in $n0 $n1; do
    echo host half $(of $n) $(dd if=$n bs=1M count=8 iflag=direct 2>/dev/null | sum)
    dd if=/dev/urandom bs=1M count=8 of=/tmp/r 2>/dev/null
    dd if=/tmp/r bs=256k of=$n seek=32 oflag=direct conv=fsync 2>/dev/null
    echo guest half $(of $n | sed "s/$(of $n0)/first/;s/$(of $n1)/second/") $(sum </tmp/r)
done
for n in $n0 $n1; do verify $n && echo fio $(of $n) verified; done

# nvme-cli
echo ctrl $(nvme id-ctrl $c0 | grep -E '^(sn|mn|oacs|oncs|mdts) ' | tr -s ' :' ' ')
echo ns $(nvme id-ns $n0 | grep -E '^(nsze|flbas|nlbaf) ' | tr -s ' :' ' ')
echo list $(nvme list-ns $c0) and $(nvme ns-descs $n0 | grep -c uuid)
nvme smart-log $c0 | grep -E '^(critical_warning|media_errors)' | tr -s '\t :' ' ' | sed 's/^/smart /'
nvme fw-log $c0 | grep -c frs1 | sed 's/^/fw /'
nvme effects-log $c0 2>/dev/null | grep -c '^ACS.*\['  | sed 's/^/effects /'
nvme get-feature $c0 -f 7 | sed 's/^/feature /'
nvme get-feature $c0 -f 6 | sed 's/^/feature /'
nvme read $n0 -s 49151 -c 3 -z 2048 -d /tmp/x >/dev/null 2>&1; echo beyond $?
echo errors $(nvme error-log $c0 -e 1 | grep -E '^(sqid|status_field|lba)' | tr -s '\t :' ' ')
nvme flush $n0 -n 1 | sed 's/^/flush /'
nvme write-zeroes $n0 -s 16384 -c 15 && echo zeroes $(dd if=$n0 bs=512 skip=16384 count=16 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
nvme dsm $n0 -n 1 -a 7 -s 16384 -b 8 -d | sed 's/^/dsm /'
smartctl -i -H $c0 | grep -E '^(Serial|SMART overall)' | sed 's/^/smartctl /'

# Under load: resets by nvme-cli, by the function's own reset, then the driver taken away.
for c in $c0 $c1; do
    verify ${c}n1 --loops=8 & fio=$!
    for i in 1 2 3; do nvme reset $c || echo reset $i failed; sleep 0.3; done
    wait $fio; echo reset $([ $c = $c0 ] && echo first || echo second) fio $?
done
verify $n0 --loops=8 & fio=$!
sleep 0.3; echo 1 >/sys/bus/pci/devices/$(bdf $c0)/reset; echo flr $?
wait $fio; echo flr fio $?
at=$(bdf $c0)
verify $n0 --loops=50 --ignore_error=EIO,EIO,EIO & fio=$!
sleep 0.5
echo $at >/sys/bus/pci/drivers/nvme/unbind; echo unbound $?
wait $fio; echo left $(ls /dev/nvme*n1 | wc -l)
echo $at >/sys/bus/pci/drivers/nvme/bind
n=0; while [ ! -b $n0 ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
verify $n0 && echo fio again verified
echo half again $(dd if=$n0 bs=1M skip=8 count=8 iflag=direct 2>/dev/null | dd bs=1M skip=0 2>/dev/null | sum)
nvme format $n1 -s 1 -f | sed 's/^/format /'
echo formatted $(dd if=$n1 bs=1M iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
verify $n1 && echo fio formatted verified
dmesg | grep -E 'nvme.*(timeout|abort|I/O error|controller is down)' | grep -v 'nvme0n1: I/O Error' | sed 's/^/dmesg /'
echo all done
GUEST
)
guest_run nvme 420 "$mvm" --memory=512M --cpus=4 --blk=emulated:"$raw",hw=nvme,doorbell=ioeventfd \
    --blk=emulated:"$qcow",hw=nvme,format=qcow2,doorbell=exit,queues=2 --blk=virtio:"$LAB_TMP/script",ro=on \
    --append="quiet $words"
is "$?" 0 "the guest powers off"
text=$(guest_text nvme)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said serial 'mvm-blk-0 +mvm-blk-1' "serial numbers are those of a virtio disk in the same place"
said sectors '49152 49152' "so are the sizes"
said queues '4 2' "the driver makes as many queues as there are"
is "$(echo "$text" | grep -c "^host half nvme[01]n1 $host")" 2 "the guest reads what the host wrote, raw and qcow2"
is "$(echo "$text" | grep -c '^fio nvme[01]n1 verified')" 2 "fio finds all it wrote"
said ctrl '.*sn mvm-blk-0 mn mvm NVMe disk mdts 7 oacs 0x102 oncs 0x1c' "nvme id-ctrl"
said ns 'nsze 0xc000 nlbaf 0 flbas 0' "nvme id-ns"
said list '.*0x1 and 1' "nvme list-ns and ns-descs"
said smart 'critical_warning 0' "nvme smart-log"
said fw 1 "nvme fw-log"
said effects '1[0-9]' "nvme effects-log"
said feature '.*0x07.*value:0x00030003' "nvme get-feature: queues"
said feature '.*0x06.*value:0x00000001' "nvme get-feature: write cache"
said beyond '[1-9]' "a read beyond the end fails"
said errors 'sqid [1-4] status_field 0x4080.* lba 0xbfff' "nvme error-log has it"
said flush '.*success' "nvme flush"
said zeroes 0 "nvme write-zeroes"
said dsm '.*success' "nvme dsm"
said 'smartctl Serial' 'Number: *mvm-blk-0' "smartctl -i"
said 'smartctl SMART' '.*PASSED' "smartctl -H"
said 'reset first' 'fio 0' "ioeventfd: resets under load, and fio finds all it wrote"
said 'reset second' 'fio 0' "exit: resets under load, and fio finds all it wrote"
said flr 0 "the function resets itself (FLR)"
said 'flr fio' 0 "… under load, and fio finds all it wrote"
said unbound 0 "the driver lets go of it under load"
said left 1 "its disk is gone"
said 'fio again' verified "the driver takes it again"
said format 'Success' "nvme format"
said formatted '0$' "what is formatted reads as zeroes"
said 'fio formatted' verified "and takes new data"
is "$(echo "$text" | grep '^dmesg')" "" "no command timed out"
said all 'done' "the guest ran to the end"
first=$(echo "$text" | sed -n 's/^half again //p')
is "$(tail -c +8388609 "$raw" | head -c 8M | sha256sum | cut -c1-64)" "$first" "the host reads what the guest wrote"
[ "$tap_failed" -eq 0 ] || diag "$text"

root_image "$LAB_TMP/root.img"
boots_from_root nvme-root /dev/nvme0n1 "$LAB_TMP/root.img" pci=nomsi \
    --blk=emulated:"$LAB_TMP/root.img",hw=nvme,shadow=off
