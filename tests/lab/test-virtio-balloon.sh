#!/bin/sh
# virtio-balloon with Linux's driver: what the guest gives back, mvm's memory shrinks by; statistics; free
# page reporting.
# lab: timeout=400
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm

# rss NAME: MiB of guest memory that the host has pages for
rss() {
    awk '/mvm-ram/ { ours = 1; next } /^[0-9a-f]+-/ { ours = 0 } ours && /^Rss:/ { sum += $2 } END { print int(sum / 1024) }' \
        "/proc/$(cat "$LAB_TMP/$1.pid.mvm")/smaps"
}

# order WORDS...: to the balloon; prints its answer
order() {
    echo "$*" | timeout 10 socat -t 5 - UNIX-CONNECT:"$LAB_TMP/balloon"
}

# stat NAME: one number that the balloon knows
stat() {
    order stats | awk -v name="$1" '$1 == name { print $2 }'
}

# within SECONDS COMMAND...: waits until it succeeds
within() {
    until=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $until ] && guest_alive balloon || return 1
        sleep 0.2
    done
}

# shellcheck disable=SC2317 # called through within
rss_below() {
    [ "$(rss balloon)" -lt "$1" ]
}
# shellcheck disable=SC2317
actual_is() {
    [ "$(stat actual)" = $(($1 << 20)) ]
}

# Small, for each page fault of a guest of the lab takes the better part of a millisecond. The guest dirties
# 96 MiB and frees them; then it does what it is told.
# shellcheck disable=SC2016 # the guest expands this
work=$(one_line 'mount -t tmpfs -o size=120m t /mnt; dd if=/dev/zero of=/mnt/f bs=1M count=96 2>/dev/null; rm /mnt/f; echo dirty;
    while read -r word; do case $word in
    dirty) dd if=/dev/zero of=/mnt/f bs=1M count=96 2>/dev/null; rm /mnt/f; echo dirty again;;
    end) break;; esac; done')
# shellcheck disable=SC2016 # the inner shell expands this
guest_start balloon 350 sh -c 'echo $$ >"$0.pid.mvm"; exec "$@"' "$LAB_TMP/balloon" "$mvm" --memory=256M \
    --balloon=virtio,control="$LAB_TMP/balloon",stats-interval=1 --append="quiet mvm.run=\"$work\""
check "the guest dirties its memory" guest_expect balloon '^dirty' 150
full=$(rss balloon)
check "mvm holds it although the guest has freed it ($full MiB)" test "$full" -gt 120

is "$(order target 120M)" ok "the balloon is told to take 120 MiB"
check "the guest gives them" within 60 actual_is 120
small=$(rss balloon)
check "mvm's memory shrinks by most of it ($full to $small MiB)" test "$small" -lt $((full - 60))
check "all of it is given back" test "$(stat discarded)" -ge $((120 << 20))
check "the guest tells its statistics" within 10 sh -c "echo stats | timeout 10 socat -t 5 - UNIX-CONNECT:$LAB_TMP/balloon | grep -q '^total-memory [1-9]'"
like "$(order target 1G)" '^error: the guest has only' "more than there is, is refused"

is "$(order target 0)" ok "the balloon is told to give all back"
check "the guest takes them" within 60 actual_is 0
guest_send balloon 'dirty\n'
check "the guest uses them" guest_expect balloon '^dirty again' 120
grown=$(rss balloon)
check "mvm's memory grows ($small to $grown MiB)" test "$grown" -gt $((small + 50))
guest_send balloon 'end\n'
guest_wait balloon
is "$?" 0 "the guest powers off"
check "the control socket is removed" test ! -e "$LAB_TMP/balloon"

# Reporting: the same without being told anything, with what a packed ring changes. (No balloon beside it:
# its single pages keep free ones from growing together, and only large pieces are reported.)
# shellcheck disable=SC2016
guest_start balloon 250 sh -c 'echo $$ >"$0.pid.mvm"; exec "$@"' "$LAB_TMP/balloon" "$mvm" --memory=256M \
    --balloon=virtio,control="$LAB_TMP/balloon",free-page-reporting=on,ring=packed \
    --append="quiet mvm.run=\"$work\""
check "reporting: the guest dirties its memory and frees it" guest_expect balloon '^dirty' 150
check "reporting: mvm's memory shrinks ($(rss balloon) MiB now)" within 30 rss_below $((full - 60))
diag "$(rss balloon) MiB; $(stat reported) bytes reported"
guest_send balloon 'end\n'
guest_wait balloon
is "$?" 0 "reporting: the guest powers off"
