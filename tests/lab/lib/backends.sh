# For lab scripts with back ends in processes of their own, after lib/lab.sh. Each is known by a name.
# shellcheck shell=sh

# background NAME COMMAND...: starts it and waits until it listens at NAME.sock; its output goes to NAME.log, its process's
# number to NAME.bg, and nothing ever comes on its input
background() {
    [ -p nothing ] || mkfifo nothing
    rm -f "$1.sock"
    back=$1
    shift
    "$@" <>nothing >>"$back.log" 2>&1 &
    echo $! >"$back.bg"
    for _ in $(seq 600); do
        [ -S "$back.sock" ] && return 0
        kill -0 "$(cat "$back.bg")" 2>/dev/null || break
        sleep 0.1
    done
    not_ok "$back listens"
    diag "$(tail -n 20 "$back.log")"
    return 1
}

# sum FILE MIB: of its first so many MiB
sum() {
    head -c "$2m" "$1" | sha256sum | cut -c1-64
}
