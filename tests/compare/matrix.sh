# What `make compare` runs in the lab: every model of a class that this build and the lab have, compared. The report, the
# results, their CSV, and the table and chart for the README go to the lab's out/compare; a run that was
# interrupted goes on where it was. matrix-blk.sh and matrix-net.sh are the two halves, a lab each, at the same time.
# shellcheck shell=sh

# matrix CLASS [MVM-COMPARE-ARGUMENTS...]
matrix() {
    matrix_class=$1
    shift
    out=$LAB_OUT/compare/$matrix_class
    mkdir -p "$LAB_OUT/compare"
    ip link set lo up
    modprobe -q tun
    cd "$LAB_TMP" || exit 1
    "$TOP/tests/compare/mvm-compare" --mvm "$MVM_BUILD/mvm" --models "$TOP/tests/compare/models.json" --class "$matrix_class" "$@" \
        --flags=--memory=512M --rounds=2 --warmup=1 --seconds=3 --out "$out" \
        --report "$out.html" --csv "$out.csv" --json "$out.json" --markdown "$out.md" --chart "$out.svg" \
        >"$out.txt" 2>"$out.log"
    is "$?" 0 "$matrix_class: every configuration gives a result"
    diag "$(tail -n 60 "$out.txt")"
    diag "$(grep -a "FAILED\|cannot run" "$out.log")"
}
