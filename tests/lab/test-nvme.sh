#!/bin/sh
# NVMe with Linux's driver: two controllers in a guest of four vCPUs, one on a block device by io_uring with doorbells
# by ioeventfd, one qcow2 with doorbells by exit; data checked from both sides, nvme-cli and smartctl, the
# controllers reset in each way and the driver taken away under load. Then a guest boots from a root on one, without
# messages (INTx), and one with a single vCPU does without shadow doorbells.
# lab: timeout=400
# shellcheck source=tests/lab/lib/lab.sh
. "$LAB_DIR/lib/lab.sh"
# shellcheck source=tests/lab/lib/disks.sh
. "$LAB_DIR/lib/disks.sh"

mvm=$MVM_BUILD/mvm
sample_images

words=$(script_disk "$LAB_TMP/script" <<'GUEST'
n0=/dev/nvme0n1 n1=/dev/nvme1n1
[ "$(cat /sys/class/nvme/nvme0/serial | tr -d ' ')" = mvm-blk-0 ] || { n0=/dev/nvme1n1; n1=/dev/nvme0n1; }
c0=${n0%n1} c1=${n1%n1}
of() { echo "${1#/dev/}"; }
bdf() { basename "$(readlink -f "/sys/class/nvme/$(of "$1")/device")"; }
sum() { sha256sum | cut -c1-64; }
t() { echo "$(cut -d' ' -f1 /proc/uptime) at" "$@"; }
verify() { # MORE...: both disks at once
    fio --offset=12M --size=512k --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c \
        --verify_fatal=1 --minimal "$@" --name=0 --filename=$n0 --name=1 --filename=$n1 >>/tmp/fio 2>&1
}
echo serial $(cat /sys/class/nvme/$(of $c0)/serial) $(cat /sys/class/nvme/$(of $c1)/serial)
echo sectors $(cat /sys/block/$(of $n0)/size) $(cat /sys/block/$(of $n1)/size)
echo queues $(ls /sys/block/$(of $n0)/mq | wc -l) $(ls /sys/block/$(of $n1)/mq | wc -l)
dd if=/dev/urandom bs=1M count=4 of=/tmp/r 2>/dev/null
echo guest half $(sum </tmp/r)
for n in $n0 $n1; do
    echo host half $(dd if=$n bs=1M count=4 iflag=direct 2>/dev/null | sum)
    dd if=/tmp/r bs=256k of=$n seek=16 oflag=direct conv=fsync 2>/dev/null
done
verify && echo fio verified
t data

# nvme-cli
echo ctrl $(nvme id-ctrl $c0 | grep -E '^(sn|mn|oacs|oncs|mdts) ' | tr -s ' :' ' ')
echo ns $(nvme id-ns $n0 | grep -E '^(nsze|flbas|nlbaf) ' | tr -s ' :' ' ')
echo list $(nvme list-ns $c0) and $(nvme ns-descs $n0 | grep -c uuid)
nvme smart-log $c0 | grep -E '^(critical_warning|media_errors)' | tr -s '\t :' ' ' | sed 's/^/smart /'
nvme fw-log $c0 | grep -c frs1 | sed 's/^/fw /'
# nvme effects-log would map the controller's registers, which Debian's kernel refuses (IO_STRICT_DEVMEM). Of 256 admin
# commands there are twelve, one of them with two bytes' worth of effects.
echo effects $(nvme get-log $c0 --log-id=5 --log-len=4096 --raw-binary | head -c 1024 | tr -d '\0' | wc -c)
nvme get-feature $c0 -f 7 | sed 's/^/feature /'
nvme get-feature $c0 -f 6 | sed 's/^/feature /'
nvme read $n0 -s 49151 -c 3 -z 2048 -d /tmp/x >/dev/null 2>&1; echo beyond $?
echo errors $(nvme error-log $c0 -e 1 | grep -E '^(sqid|status_field|lba)' | tr -s '\t :' ' ')
nvme flush $n0 -n 1 | sed 's/^/flush /'
nvme write-zeroes $n0 -s 20480 -c 15 && echo zeroes $(dd if=$n0 bs=512 skip=20480 count=16 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
nvme dsm $n0 -n 1 -a 7 -s 20480 -b 8 -d | sed 's/^/dsm /'
smartctl -i -H $c0 | grep -E '^(Serial|SMART overall)' | sed 's/^/smartctl /'
t cli

# Under load: resets by nvme-cli, by the function's own reset, then the driver taken away.
while [ ! -e /tmp/enough ]; do verify --loops=4 || { echo fio $? under load; break; }; done &
load=$!
sleep 2
for i in 1 2; do
    timeout 100 nvme reset $c0 && timeout 100 nvme reset $c1 && echo reset $i
    sleep 0.3
done
t resets
for c in $c0 $c1; do echo 1 >/sys/bus/pci/devices/$(bdf $c)/reset && echo flr; sleep 0.3; done
t flrs
: >/tmp/enough
wait $load; echo load ends
t load
at=$(bdf $c0)
fio --name=load --filename=$n0 --offset=12M --size=1M --rw=randread --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
    --loops=1000 --minimal >/dev/null 2>&1 & load=$!
sleep 2
echo $at >/sys/bus/pci/drivers/nvme/unbind; echo unbound $?
wait $load; echo left $(ls /dev/nvme*n1 | wc -l)
echo $at >/sys/bus/pci/drivers/nvme/bind
n=0; while [ ! -b $n0 ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
t bound
nvme format $n1 -s 1 -f | sed 's/^/format /'
echo formatted $(dd if=$n1 bs=1M iflag=direct 2>/dev/null | tr -d '\0' | wc -c)
verify && echo fio again verified
t end
dmesg | grep -E 'nvme.*(timeout|abort|I/O error|controller is down)' | grep -v "$(of $n0): I/O Error" | sed 's/^/dmesg /'
echo all done
GUEST
)
guest_run nvme 200 "$mvm" --memory=512M --cpus=4 --blk=emulated:"$device",hw=nvme,doorbell=ioeventfd,engine=io_uring \
    --blk=emulated:"$qcow",hw=nvme,format=qcow2,doorbell=exit,queues=2 --blk=virtio:"$LAB_TMP/script",ro=on \
    --stats="$LAB_TMP/stats.json" --no-reboot \
    --append="quiet panic=-1 $words"
is "$?" 0 "the guest powers off"
text=$(guest_text nvme)
# said WORD REGEX TEXT: the guest's line that begins with the word matches
said() {
    like "$(echo "$text" | grep "^$1 ")" "^$1 $2" "$3"
}
said serial 'mvm-blk-0 +mvm-blk-1' "serial numbers are those of a virtio disk in the same place"
said sectors '49152 49152' "so are the sizes"
said queues '4 2' "the driver makes as many queues as there are"
is "$(echo "$text" | grep -c "^host half $host")" 2 "the guest reads what the host wrote, raw and qcow2"
said 'fio' verified "fio finds all it wrote"
said ctrl '.*sn mvm-blk-0 mn mvm NVMe disk mdts 7 oacs 0x102 oncs 0x1c' "nvme id-ctrl"
said ns 'nsze 0xc000 nlbaf 0 flbas 0' "nvme id-ns"
said list '.*0x1 and 1' "nvme list-ns and ns-descs"
said smart 'critical_warning 0' "nvme smart-log"
said fw 1 "nvme fw-log"
said effects 13 "nvme get-log: commands and their effects"
said feature '.*0x07.*value:0x00030003' "nvme get-feature: queues"
said feature '.*0x06.*value:0x00000001' "nvme get-feature: write cache"
said beyond '[1-9]' "a read beyond the end fails"
said errors 'sqid [1-4] status_field 0x4080.* lba 0xbfff' "nvme error-log has it"
said flush '.*success' "nvme flush"
said zeroes 0 "nvme write-zeroes"
said dsm '.*success' "nvme dsm"
said 'smartctl Serial' 'Number: *mvm-blk-0' "smartctl -i"
said 'smartctl SMART' '.*PASSED' "smartctl -H"
is "$(echo "$text" | grep -c '^reset [12]')" 2 "nvme reset under load, twice on each"
is "$(echo "$text" | grep -c '^flr')" 2 "the functions reset themselves (FLR) under load"
said 'load' ends "… and fio ends"
is "$(echo "$text" | grep '^fio .* under load')" "" "… having found all it wrote"
said unbound 0 "the driver lets go of it under load"
said left 1 "its disk is gone"
said format 'Success' "nvme format"
said formatted '0$' "what is formatted reads as zeroes"
said 'fio again' verified "after the driver took the first again, fio finds all it wrote on both"
is "$(echo "$text" | grep '^dmesg')" "" "no command timed out"
said all 'done' "the guest ran to the end"
is "$(tail -c +4194305 "$raw" | head -c 4m | sha256sum | cut -c1-64)" "$(echo "$text" | sed -n 's/^guest half //p')" \
    "the host reads what the guest wrote"
# counter DEVICE NAME: from the statistics
counter() {
    sed -n "/\"name\": \"$1\"/,/\"$2\"/s/.*\"$2\": *\([0-9]*\).*/\1/p" "$LAB_TMP/stats.json" | head -n 1
}
check "with shadow doorbells most of the first's do not leave the kernel" \
    [ "$(counter blk0 kicks_ioeventfd)" -gt "$(counter blk0 kicks_exit)" ]
is "$(counter blk1 kicks_ioeventfd)" 0 "all of the second's do"
diag "blk0: $(counter blk0 requests) requests, $(counter blk0 kicks_ioeventfd) doorbells in the kernel, \
$(counter blk0 kicks_exit) by exit; blk1: $(counter blk1 requests), $(counter blk1 kicks_exit) by exit"
diag "$(echo "$text" | grep ' at ')"
[ "$tap_failed" -eq 0 ] || diag "$text"
losetup -d "$device"

root_image "$LAB_TMP/root.img"
boots_from_root nvme-root /dev/nvme0n1 "$LAB_TMP/root.img" pci=nomsi \
    --blk=emulated:"$LAB_TMP/root.img",hw=nvme,shadow=off
