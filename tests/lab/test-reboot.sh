#!/bin/sh
# Reboots Debian's kernel in place, by "reboot" and by panic=-1: the machine comes up again, with its disk.
# lab: timeout=300
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
# reboot: the disk remembers how often the guest has come up
disk=$LAB_TMP/reboot.img
truncate -s 1M "$disk"
# shellcheck disable=SC2016 # the guest expands these
count='n=$(dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -dc x | wc -c);
    echo boot number $n;
    printf xxx | head -c $((n + 1)) | dd of=/dev/vda conv=fsync 2>/dev/null;
    [ $n -ge 2 ] || reboot -f'
guest_run reboot 240 "$mvm" --memory=512M --cpus=2 --blk=virtio:"$disk" \
    --append="quiet mvm.run=\"$(one_line "$count")\""
is "$?" 0 "reboot: mvm goes on over reboots and ends with 0"
is "$(guest_text reboot | grep '^boot number')" "boot number 0
boot number 1
boot number 2" "reboot: the machine restarts in place, twice, with its disk"
is "$(guest_status reboot)" 0 "reboot: the third boot powers off"
