#!/bin/sh
# The console: 64 KiB typed into the guest arrive whole, output that nobody reads stops no guest, and each
# kind of character backend carries a shell.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm

# Typed all at once, far faster than the guest reads; raw, so that every byte value counts.
head -c 65536 /dev/urandom >"$LAB_TMP/typed"
wanted=$(sha256sum <"$LAB_TMP/typed" | cut -d' ' -f1)
guest_start typed 240 "$mvm" --memory=512M \
    --append='quiet mvm.run="stty raw -echo; echo now; head -c 65536 | sha256sum; stty sane"'
check "typed: the guest listens" guest_expect typed '^now' 180
cat "$LAB_TMP/typed" >"$LAB_TMP/typed.in"
guest_wait typed
is "$?" 0 "typed: the guest powers off"
like "$(guest_text typed)" "^ *$wanted  -\$" "typed: 64 KiB arrive whole and in order"

# A reader that never reads: a FIFO that is opened and left alone.
mkfifo "$LAB_TMP/stuck"
exec 9<>"$LAB_TMP/stuck"
truncate -s 1M "$LAB_TMP/stuck.img"
work='(seq 100000; echo end) & sleep 3; echo alive | dd of=/dev/vda conv=fsync 2>/dev/null; poweroff -f'
guest_run stuck 180 sh -c "exec '$mvm' --memory=512M --blk=virtio:'$LAB_TMP/stuck.img' \
    --append='quiet mvm.run=\"$work\"' >'$LAB_TMP/stuck'"
is "$?" 0 "stuck terminal: the guest powers off"
is "$(head -c 5 "$LAB_TMP/stuck.img")" alive "stuck terminal: the guest goes on meanwhile"
exec 9>&-

# A unix socket, with a client that comes late, and a pty.
guest_start socket 240 "$mvm" --memory=512M --console=emulated:unix:"$LAB_TMP/con.sock" --append=quiet
while [ ! -S "$LAB_TMP/con.sock" ] && guest_alive socket; do sleep 0.1; done
mkfifo "$LAB_TMP/socat.in"
socat - UNIX-CONNECT:"$LAB_TMP/con.sock" <>"$LAB_TMP/socat.in" >"$LAB_TMP/socat.log" &
until grep -q '~# ' "$LAB_TMP/socat.log" || ! guest_alive socket; do sleep 0.2; done
# shellcheck disable=SC2016 # the guest expands this
echo 'echo sum $((40 + 2)); exit' >"$LAB_TMP/socat.in"
guest_wait socket
is "$?" 0 "unix socket: the shell is left and the guest powers off"
like "$(tr -d '\r' <"$LAB_TMP/socat.log")" '^sum 42$' "unix socket: a shell works"
check "unix socket: it is removed" test ! -e "$LAB_TMP/con.sock"

# All four serial ports of a PC; two and two share a line.
guest_start file 180 "$mvm" --memory=512M --console=emulated:file:"$LAB_TMP/con.txt" --console=emulated:file:"$LAB_TMP/com2" \
    --console=emulated:file:"$LAB_TMP/com3" --console=emulated:file:"$LAB_TMP/com4" \
    --append='quiet mvm.run="echo into the file; for n in 1 2 3; do seq 300 >/dev/ttyS$n & done; wait"'
guest_wait file
is "$?" 0 "file: the guest powers off"
like "$(tr -d '\r' <"$LAB_TMP/con.txt")" '^into the file$' "file: it holds the output"
for n in 2 3 4; do
    is "$(tr -d '\r' <"$LAB_TMP/com$n" | cksum)" "$(seq 300 | cksum)" "COM$n: a port of its own, all at the same time"
done
