# What `make compare` runs in the lab: every model of a class that this build and the lab have, compared. The report, the
# results, their CSV, and the table and chart for the README go to the lab's out/compare; a run that was
# interrupted goes on where it was. matrix-blk.sh and matrix-net.sh are the two halves, a lab each, at the same time.
# shellcheck shell=sh

# matrix CLASS
matrix() {
    out=$LAB_OUT/compare
    mkdir -p "$out"
    ip link set lo up
    modprobe -q tun
    cd "$LAB_TMP" || exit 1
    "$TOP/tests/compare/mvm-compare" --mvm "$MVM_BUILD/mvm" --models "$TOP/tests/compare/models.json" --class "$1" \
        --flags=--memory=512M --rounds=2 --warmup=1 --seconds=3 --out "$out/$1" \
        --report "$out/$1.html" --csv "$out/$1.csv" --json "$out/$1.json" --markdown "$out/$1.md" --chart "$out/$1.svg" \
        >"$out/$1.txt" 2>"$out/$1.log"
    is "$?" 0 "$1: every configuration gives a result"
    diag "$(tail -n 60 "$out/$1.txt")"
    diag "$(grep -a "FAILED\|cannot run" "$out/$1.log")"
}
