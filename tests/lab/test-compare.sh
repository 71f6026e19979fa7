#!/bin/sh
# mvm-compare with real guests: two rings of virtio-blk and a card on a tap, one short round each, with the data
# checked, and a page made of it. What the tool makes of numbers is tests/compare/test_compare.py's to test.
# lab: timeout=300
. "$LAB_DIR/lib/lab.sh"

ip link set lo up
modprobe -q tun
cd "$LAB_TMP" || exit 1
"$TOP/tests/compare/mvm-compare" --mvm "$MVM_BUILD/mvm" --rounds=1 --warmup=0 --seconds=1 --out out --flags=--memory=256M \
    --workload=randread-1 --workload=pingpong --json r.json --report r.html --timeout 200 \
    'split=--blk=virtio:{disk}' 'packed=--blk=virtio:{disk},ring=packed' 'tap=--net=virtio:{tap}' >compare.log 2>&1
is "$?" 0 "three guests, two workloads" || diag "$(cat compare.log; cat out/runs.jsonl)"
cat >check.py <<'PYTHON'
import json
data = json.load(open("r.json"))
models = {name: (e, m) for e in data["analysis"] for name, m in e["models"].items()}
def say(good, text, why=""):
    print("%s %s%s" % ("ok" if good else "bad", text, " : %s" % why if not good else ""))
for name, (entry, m) in models.items():
    got = {k: v["median"] for k, v in m["metrics"].items()}
    say(m["rounds"] == 1 and m["checked"], "%s: data is checked on both sides" % name, m)
    say(got.get("p50_us", 0) > 0 and got.get("p99_us", 0) >= got["p50_us"], "%s: latencies" % name, got)
    say(got["cpu_us_per_op"] > 0 and got["interrupts_per_op"] > 0.05, "%s: CPU time and interrupts" % name, got)
    say(m["steps"]["kicks_ioeventfd"] > 0.05 and got["kvm_exits_per_op"] > 0.5, "%s: doorbells and exits" % name, m["steps"])
for name in "split", "packed":
    got = {k: v["median"] for k, v in models[name][1]["metrics"].items()}
    say(got["iops"] > 10 and 4000 <= got["copied_per_op"] < 9000, "%s: one copy of 4 KiB a request" % name, got)
say(data["host"]["virtualization"] == "emulated", "the lab is known to be emulated", data["host"])
PYTHON
python3 check.py >said 2>&1
while read -r word text; do
    if [ "$word" = ok ]; then ok "$text"; else not_ok "$word $text"; fi
done <said
like "$(head -c 100 r.html)" '^<!DOCTYPE html>' "a page is made"
