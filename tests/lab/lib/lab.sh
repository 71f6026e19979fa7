# What a lab script sources first:
#
#     . "$LAB_DIR/lib/lab.sh"
#
# TAP helpers, and helpers to run guests with a time limit and a console log. Of the environment a
# script may use: TOP (the source tree), MVM_BUILD (the build tree), MVM_IMAGES (the default guest),
# LAB_TMP (a scratch directory on tmpfs; the tail of every *.log in it is shown when the script
# fails), LAB_OUT (a directory that outlives the lab), LAB_DEVICES (what the lab was started with),
# LAB_WORDS (for the
# kernels of guests), LAB_KMOD (where lab_modules finds what it loads), LAB_TOOLS (with a directory for each tool asked for).
# shellcheck shell=sh

tap_count=0
tap_failed=0
tap_planned=

# plan N: say how many tests will follow. Without it, the number is told at the end.
plan() {
    tap_planned=$1
    echo "1..$1"
}

# skip_all REASON: nothing of this script can run here; ends it
skip_all() {
    tap_planned=0
    echo "1..0 # SKIP $*"
    exit 0
}

# diag TEXT...: a remark, one line for each line of the text
diag() {
    printf '%s\n' "$*" | sed 's/^/# /'
}

# ok TEXT / not_ok TEXT: one result
ok() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $*"
}
not_ok() {
    tap_count=$((tap_count + 1))
    tap_failed=$((tap_failed + 1))
    echo "not ok $tap_count - $*"
}

# skip TEXT REASON: one test that cannot run here
skip() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

# is GOT WANTED TEXT: the two are equal
is() {
    if [ "$1" = "$2" ]; then
        ok "$3"
    else
        not_ok "$3"
        diag "got:    $1"
        diag "wanted: $2"
        return 1
    fi
}

# like GOT REGEX TEXT: the text matches (grep -E)
like() {
    if printf '%s\n' "$1" | grep -Eq -e "$2"; then
        ok "$3"
    else
        not_ok "$3"
        diag "got:            $1"
        diag "should match:   $2"
        return 1
    fi
}

# check TEXT COMMAND...: the command succeeds; its output is shown when not
check() {
    tap_text=$1
    shift
    if tap_out=$("$@" 2>&1); then
        ok "$tap_text"
    else
        tap_status=$?
        not_ok "$tap_text"
        diag "exit status $tap_status of: $*"
        diag "$tap_out"
        return 1
    fi
}

# The plan comes at the end when none was given; a failed test makes the exit status 1. What took long is told: the
# seconds of each guest, from its start to its end.
tap_end() {
    tap_status=$?
    trap - EXIT
    [ ! -s "$LAB_TMP/guests" ] || awk '{ text = text " " $1 " " int($3 - $2 + 0.5) } END { print "# guests: " NR ":" text }' "$LAB_TMP/guests"
    if [ "$tap_status" -eq 0 ]; then
        [ -n "$tap_planned" ] || echo "1..$tap_count"
        [ "$tap_failed" -eq 0 ] || tap_status=1
    fi
    exit "$tap_status"
}
trap tap_end EXIT

# lab_modules SET: load modules that lib/kmod.sh built; the script's header asks for them (modules=SET).
# mtty: the sample mediated device. iommufd: iommufd and VFIO with its cdev, instead of Debian's, which go.
lab_modules() {
    case $1 in
    mtty)
        modprobe -a mdev vfio vfio_iommu_type1 && insmod "$LAB_KMOD/mtty/mtty.ko"
        ;;
    iommufd)
        for lab_m in vfio-pci vfio-pci-core vfio_iommu_type1 mdev vfio; do
            modprobe -rq "$lab_m" || :
        done
        modprobe -a irqbypass
        for lab_m in iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci; do
            insmod "$LAB_KMOD/iommufd/$lab_m.ko" || return
        done
        ;;
    esac
}

# --- guests: VMM commands in the background, known by a name -----------------------------------
# Standard output and error go to $LAB_TMP/NAME.log; standard input is a FIFO that guest_send fills
# and that never ends by itself. Whatever is left at the end of the script, the lab kills.

# guest_log NAME: the path of its console log
guest_log() {
    echo "$LAB_TMP/$1.log"
}

# guest_text NAME: the log as plain lines, without carriage returns
guest_text() {
    tr -d '\r' <"$LAB_TMP/$1.log"
}

# guest_start NAME SECONDS COMMAND...: start it (its --append begins with $LAB_WORDS), to be killed after three times the
# time, which is what it may take where it has this machine's CPU to itself; or a while after its kernel has panicked, if
# that ends it not
guest_start() {
    guest_name=$1
    guest_limit=$(($2 * 3))
    shift 2
    for guest_word; do
        shift
        case $guest_word in --append=*) guest_word="--append=$LAB_WORDS ${guest_word#*=}" ;; esac
        set -- "$@" "$guest_word"
    done
    rm -f "$LAB_TMP/$guest_name.in" "$LAB_TMP/$guest_name.status"
    mkfifo "$LAB_TMP/$guest_name.in"
    : >"$LAB_TMP/$guest_name.log"
    (
        read -r guest_began _ </proc/uptime
        timeout -k 15 "$guest_limit" "$@" <>"$LAB_TMP/$guest_name.in" >"$LAB_TMP/$guest_name.log" 2>&1 &
        guest_pid=$!
        echo $guest_pid >"$LAB_TMP/$guest_name.pid"
        # Where its console goes elsewhere, into another log, its own is empty.
        while sleep 15 && kill -0 $guest_pid 2>/dev/null; do
            guest_console=$LAB_TMP/$guest_name.log
            [ -s "$guest_console" ] || guest_console="$LAB_TMP/*.log"
            # shellcheck disable=SC2086 # a pattern
            grep -q 'end Kernel panic' $guest_console && sleep 15 && pkill -KILL -P $guest_pid
        done >/dev/null 2>&1 &
        guest_watch=$!
        wait $guest_pid
        echo $? >"$LAB_TMP/$guest_name.status.new"
        kill $guest_watch
        read -r guest_ended _ </proc/uptime
        echo "$guest_name $guest_began $guest_ended" >>"$LAB_TMP/guests"
        mv "$LAB_TMP/$guest_name.status.new" "$LAB_TMP/$guest_name.status"
    ) &
    echo $! >"$LAB_TMP/$guest_name.job"
    while [ ! -s "$LAB_TMP/$guest_name.pid" ]; do sleep 0.01; done
}

# guest_wait NAME: wait for its end; returns its exit status (124 or 137: the time limit)
# Nothing here looks again and again where it can be avoided: each program that the lab starts takes from the guest
# what is dear, the CPU. Only of another shell than the one that started it the end cannot be waited for.
guest_wait() {
    guest_alive "$1" && wait "$(cat "$LAB_TMP/$1.job")" 2>/dev/null
    while [ ! -e "$LAB_TMP/$1.status" ]; do sleep 0.05; done
    return "$(cat "$LAB_TMP/$1.status")"
}

# guest_run NAME SECONDS COMMAND...: both; the status is the command's
guest_run() {
    guest_start "$@"
    guest_wait "$1"
}

# guest_alive NAME: is it still running?
guest_alive() {
    [ ! -e "$LAB_TMP/$1.status" ]
}

# guest_expect NAME REGEX SECONDS: wait until its log has a line that matches; fails when the guest
# ends without it or the time is over
guest_expect() {
    # One program that sleeps, so waiting costs the lab's CPU next to nothing; a prompt is a line without an end.
    # shellcheck disable=SC2016 # these are perl's
    perl -e 'my ($regex, $seconds, $pid, $log) = @ARGV; my $text = ""; my $end = time + $seconds; my $gone;
        until ($text =~ /$regex/m) {
            exit 1 if $gone || time > $end;
            $gone = !kill(0, $pid);
            my $f;
            if (open($f, "<", $log)) { local $/; $text = <$f> // ""; }
            select(undef, undef, undef, 0.2) unless $text =~ /$regex/m || $gone;
        }' "$2" "$3" "$(cat "$LAB_TMP/$1.pid")" "$LAB_TMP/$1.log"
}

# guest_said NAME REGEX TEXT: one result: its log has a line that matches (grep -E). One program, so cheap.
lab_cr=$(printf '\r')
guest_said() {
    case $2 in
    *\$) guest_regex="${2%?}$lab_cr?\$" ;;
    *) guest_regex=$2 ;;
    esac
    if grep -Eq -e "$guest_regex" "$LAB_TMP/$1.log"; then
        ok "$3"
    else
        not_ok "$3"
        diag "$1 never said: $2"
        return 1
    fi
}

# guest_send NAME TEXT: type it, as printf %b understands it ("poweroff\n")
guest_send() {
    printf '%b' "$2" >"$LAB_TMP/$1.in"
}

# guest_kill NAME [SIGNAL]: end it (TERM) and wait
guest_kill() {
    kill -"${2:-TERM}" "$(cat "$LAB_TMP/$1.pid")" 2>/dev/null
    guest_wait "$1"
}

# guest_status NAME: what the guest's mvm.run printed as its exit status; empty when it printed none
guest_status() {
    tr -d '\r' <"$LAB_TMP/$1.log" | sed -n 's/^mvm\.run: exit status \([0-9]*\).*/\1/p' | tail -n 1
}

# one_line TEXT: the text with its line breaks as blanks, for a kernel command line, which has one line
one_line() {
    printf '%s' "$1" | tr -s '\n ' '  '
}
