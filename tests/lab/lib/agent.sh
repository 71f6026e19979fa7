#!/bin/sh
# Runs inside the lab as its first process, on the root that tests/lab/init made, and does
# what the runner (tests/lab/run) asks for over a virtio port, one line each:
#
#     set NAME VALUE          an environment variable for all that follows
#     share TAG DIR           mount the writable share TAG on DIR
#     run SECONDS SCRIPT      run the script with its output on the port; answers "end STATUS"
#     tty ROWS COLS COMMAND   run a command on the terminal (hvc0); answers "end STATUS"
#     pipe COMMAND            run a command with its input from the port "stdin"; answers "end STATUS"
#     off                     power off
#
# What comes on the port "pulse" it answers there: the touches that keep the lab going, see wait() in the runner.
# Its own words to the runner start with a byte 1 and the mark that the runner put on the kernel command
# line (lab.mark), so that no output of a script is taken for one.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 LAB=1
cd / || exit 1

# Drivers for the devices that the scripts asked for: disks and NICs, but not the board's own AHCI
aliases=
for f in /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias; do
    read -r alias <"$f"
    case $alias in *bc0106* | *bc01sc06*) ;; *bc01sc* | *bc02sc* | virtio:d0000000[12]*) aliases="$aliases $alias" ;; esac
done
# shellcheck disable=SC2086 # a list of names
[ -z "$aliases" ] || modprobe -aq $aliases

for port in /sys/class/virtio-ports/*; do
    [ -e "$port/name" ] || continue
    read -r name <"$port/name"
    case $name in
    lab) lab=/dev/${port##*/} ;;
    stdin) stdin=/dev/${port##*/} ;;
    pulse) pulse=/dev/${port##*/} ;;
    esac
done
exec 3<>"$lab"

read -r cmdline </proc/cmdline
mark=${cmdline##*lab.mark=}
mark=${mark%% *}

say() {
    printf '\001%s %s\n' "$mark" "$*" >&3
}

# boxed SETSID-OPTIONS COMMAND...: runs it in a cgroup and a session of its own; whatever it leaves running
# is killed with the cgroup.
jobs_done=0
boxed() {
    jobs_done=$((jobs_done + 1))
    box=/sys/fs/cgroup/job$jobs_done
    mkdir "$box"
    # shellcheck disable=SC2016 # expands in the inner shell
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec setsid "$@"' sh "$box" "$@"
    result=$?
    echo 1 >"$box/cgroup.kill"
    tries=0
    while ! rmdir "$box" 2>/dev/null && [ $tries -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    return $result
}

# script SECONDS PATH
# The small programs that it starts by the hundred are busybox's, from memory: starting one that the loader must put together
# costs the emulator 50 to 100 ms, a static one 10.
script() {
    path=$PATH
    PATH=/run/lab/bin:$PATH
    LAB_TMP=$(mktemp -d /run/lab/tmp.XXXXXX)
    export LAB_TMP
    cd "$TOP" || cd /
    boxed -w timeout -k 5 "$1" "$2" </dev/null >&3 2>&1
    status=$?
    if [ $status -ne 0 ]; then
        # The guests' consoles say most about what went wrong.
        for log in "$LAB_TMP"/*.log; do
            [ -s "$log" ] || continue
            printf '\n# last lines of %s:\n' "${log##*/}"
            grep 'EFLAGS: ' "$log" | tail -n 3 | tr -d '\r' | tr -c '\n\t -~' '?' | sed 's/^/#   /'
            tail -c 8192 "$log" | tail -n 40 | tr -d '\r' | tr -c '\n\t -~' '?' | sed 's/^/#   /'
        done >&3
    fi
    cd /
    rm -rf "$LAB_TMP"
    unset LAB_TMP
    PATH=$path
    say "end $status"
}

# It sleeps but for two bytes a second: what it costs cannot be seen in a measurement.
perl -e '1 while sysread(STDIN, $x, 4096) && syswrite(STDOUT, "\n")' <>"$pulse" >&0 &
say "up"
while read -r word rest <&3; do
    case $word in
    set)
        export "${rest%% *}=${rest#* }"
        ;;
    share)
        mkdir -p "${rest#* }"
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,access=any "${rest%% *}" "${rest#* }"
        ;;
    run)
        script "${rest%% *}" "${rest#* }"
        ;;
    tty)
        rows=${rest%% *} rest=${rest#* }
        cols=${rest%% *} rest=${rest#* }
        exec 5<>/dev/hvc0
        sleep 0.2 # the driver sets a size of its own some time after the first open
        stty rows "$rows" cols "$cols" sane <&5
        cd "$TOP" || cd /
        say "begin"
        boxed -cw sh -c "$rest" </dev/hvc0 >/dev/hvc0 2>&1
        status=$?
        stty -ixon <&5 # waits until all of it is sent
        exec 5<&-
        cd /
        say "end $status"
        ;;
    pipe)
        cd "$TOP" || cd /
        exec 4<"$stdin"
        say "begin"
        boxed -w sh -c "$rest" <&4 >&3 2>&3
        status=$?
        exec 4<&-
        cd /
        say "end $status"
        ;;
    off)
        break
        ;;
    esac
done
busybox poweroff -f
