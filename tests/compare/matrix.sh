#!/bin/sh
# Every model that this build and the lab have, compared: what `make compare` runs. The report, the results and their
# CSV go to the lab's out/compare; a run that was interrupted goes on where it was.
# lab: device=nvme,nvme-sriov,igb mem=4096 timeout=2400 append="mvm.compare"
. "$LAB_DIR/lib/lab.sh"

out=$LAB_OUT/compare
mkdir -p "$out"
ip link set lo up
modprobe -q tun
cd "$LAB_TMP" || exit 1
for class in blk net; do
    # shellcheck disable=SC2086 # MVM_COMPARE holds words
    "$TOP/tests/compare/mvm-compare" --mvm "$MVM_BUILD/mvm" --models "$TOP/tests/compare/models.json" --class $class \
        --flags=--memory=512M --rounds=2 --warmup=1 --seconds=3 --out "$out/$class" \
        --report "$out/$class.html" --csv "$out/$class.csv" --json "$out/$class.json" \
        --markdown "$out/$class.md" --chart "$out/$class.svg" $MVM_COMPARE >"$out/$class.txt" 2>"$out/$class.log"
    is "$?" 0 "$class: every configuration gives a result"
    diag "$(tail -n 60 "$out/$class.txt")"
    diag "$(grep -a "FAILED\|cannot run" "$out/$class.log")"
done
