#!/bin/sh
# virtio-vsock with Linux's driver and socat on both ends: 64 MiB each way with checksums, calls from both
# sides, a slow reader, half-closed streams, refusals.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm
v=$LAB_TMP/v
head -c 64m /dev/urandom >"$LAB_TMP/data"
sum=$(sha256sum <"$LAB_TMP/data" | cut -d' ' -f1)
part=$(head -c 8m "$LAB_TMP/data" | sha256sum | cut -d' ' -f1)

# Programs of the host: 1001 sends the data, 1002 sums up what comes, 1003 answers when all has come,
# 1004 reads slowly.
socat -u OPEN:"$LAB_TMP/data" UNIX-LISTEN:"${v}_1001" &
socat -u UNIX-LISTEN:"${v}_1002" SYSTEM:"sha256sum >$LAB_TMP/sum.up" &
socat UNIX-LISTEN:"${v}_1003",fork SYSTEM:"wc -c" &
socat -u UNIX-LISTEN:"${v}_1004" SYSTEM:"sleep 5; sha256sum >$LAB_TMP/sum.slow" &

# shellcheck disable=SC2016 # the guest expands this
work=$(one_line 'socat -u VSOCK-CONNECT:2:1001 CREATE:/tmp/d; echo down $(sha256sum </tmp/d);
    socat -u OPEN:/tmp/d VSOCK-CONNECT:2:1002; echo up done;
    echo half $(head -c 100000 /tmp/d | socat -t 20 - VSOCK-CONNECT:2:1003);
    socat -u /dev/null VSOCK-CONNECT:2:9 2>&1 | grep -o -e refused -e reset;
    head -c 4194304 /tmp/d | socat -u - VSOCK-CONNECT:2:1004; echo slow done;
    for i in 1 2 3 4 5 6 7 8; do head -c 1000000 /tmp/d | socat -t 20 - VSOCK-CONNECT:2:1003 & done; wait; echo eight done;
    socat -u VSOCK-LISTEN:4001 CREATE:/tmp/e & sleep 1; echo listening; wait; echo in $(sha256sum </tmp/e);
    socat -u OPEN:/tmp/e VSOCK-LISTEN:4002 & sleep 1; echo sending; wait; echo out done')
guest_start vsock 350 "$mvm" --memory=1G --cpus=2 --vsock=virtio:"$v" --append="quiet mvm.run=\"$work\""

check "64 MiB to the guest" guest_expect vsock "^down $sum " 120
check "64 MiB from the guest" guest_expect vsock "^up done" 60
check "a stream that is closed in one direction" guest_expect vsock "^half 100000" 30
check "a port that nobody listens on" guest_expect vsock "^(refused|reset)" 10
check "a reader that is slow" guest_expect vsock "^slow done" 30
check "eight streams at once" guest_expect vsock "^eight done" 60
is "$(guest_text vsock | grep -c '^1000000')" 8 "all of them whole"
is "$(cut -d' ' -f1 <"$LAB_TMP/sum.up")" "$sum" "the host has what the guest sent"

# The host calls.
check "the guest listens" guest_expect vsock "^listening" 30
{
    printf 'CONNECT 4001\n'
    head -c 8m "$LAB_TMP/data"
} | socat -t 60 - UNIX-CONNECT:"$v" >"$LAB_TMP/answer"
like "$(head -c 64 "$LAB_TMP/answer")" '^OK [0-9]+$' "CONNECT is answered with OK and a port"
check "8 MiB to the guest, called by the host" guest_expect vsock "^in $part " 60
check "the guest listens again" guest_expect vsock "^sending" 30
is "$(printf 'CONNECT 4003\n' | timeout 20 socat -t 20 - UNIX-CONNECT:"$v")" "" "a port that nobody listens on, called by the host"
printf 'CONNECT 4002\n' | socat -t 60 - UNIX-CONNECT:"$v" >"$LAB_TMP/answer"
is "$(sed 1d "$LAB_TMP/answer" | sha256sum | cut -d' ' -f1)" "$part" "8 MiB from the guest, called by the host"
guest_wait vsock
is "$?" 0 "the guest powers off"
is "$(cut -d' ' -f1 <"$LAB_TMP/sum.slow")" "$(head -c 4m "$LAB_TMP/data" | sha256sum | cut -d' ' -f1)" "the slow reader has all"
check "the socket is removed" test ! -e "$v"
