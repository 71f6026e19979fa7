#!/bin/sh
# Makes this machine ready: installs the Debian packages of the named groups (see host-packages)
# that are missing.
#
#     images/host-setup.sh GROUP...        e.g. "build lab check", or "all"
#
# Silent and quick when nothing is missing. Root installs with apt-get; anybody else gets the one
# command to type, and exit status 1.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
list=$here/host-packages

die() {
    echo "host-setup: $*" >&2
    exit 1
}

[ $# -gt 0 ] || die "usage: host-setup.sh GROUP...; groups: $(
    sed -n 's/^\([a-z0-9-]*\):.*/\1/p' "$list" | sort -u | tr '\n' ' ')all"

# Groups to packages, one a line, each once; exits 3 on a group that the list does not have.
packages=$(awk -v want="$*" '
    /^[ \t]*(#|$)/ { next }
    { g = $1; sub(/:$/, "", g); order[++n] = g; $1 = ""; body[n] = $0; known[g] = 1 }
    function add(g,    i, k, w, c) {
        if (g in visited) return
        visited[g] = 1
        if (!(g in known)) { print g > "/dev/stderr"; bad = 1; return }
        for (i = 1; i <= n; i++) {
            if (order[i] != g) continue
            c = split(body[i], w, " ")
            for (k = 1; k <= c; k++)
                if (w[k] ~ /^@/) add(substr(w[k], 2)); else if (!(w[k] in seen)) { seen[w[k]] = 1; print w[k] }
        }
    }
    END {
        c = split(want, a, " ")
        for (j = 1; j <= c; j++) {
            if (a[j] == "all") { for (i = 1; i <= n; i++) add(order[i]) } else add(a[j])
        }
        exit bad ? 3 : 0
    }' "$list") || die "no such group in $list (named above)"

command -v dpkg-query >/dev/null || die "this needs a Debian machine; install by hand: $(echo "$packages" | tr '\n' ' ')"

# shellcheck disable=SC2086 # a list of names
missing=$({ dpkg-query -W -f '+ ${db:Status-Status} ${Package}\n' $packages 2>/dev/null || :; echo "$packages"; } | awk '
    $1 == "+" { if ($2 == "installed") have[$3] = 1; next }
    !($1 in have) { printf "%s ", $1 }')
missing=${missing% }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "host-setup: these packages are missing; install them with:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Another apt or dpkg at work (a fresh machine's own set-up, say) is waited for, not fought: apt-get
# waits for dpkg's lock by itself, but gives up at once when another holds the package lists.
apt() {
    tries=0
    while ! apt-get -o DPkg::Lock::Timeout=600 -q "$@" >"$log" 2>&1 </dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -lt 120 ] && grep -q 'Could not get lock' "$log"; then
            [ "$tries" -gt 1 ] || echo "host-setup: waiting for another apt-get to finish" >&2
            sleep 5
        else
            return 1
        fi
    done
}

count=$(echo "$missing" | wc -w)
echo "host-setup: installing $count package(s): $missing" >&2
# The lists may be absent or stale on a fresh machine; fetch them only when the install fails without.
# shellcheck disable=SC2086
apt install -y --no-install-recommends $missing && exit 0
echo "host-setup: refreshing the package lists" >&2
apt update || :
# shellcheck disable=SC2086
apt install -y --no-install-recommends $missing && exit 0
tail -n 20 "$log" >&2
die "apt-get install failed (its last lines are above)"
