"""The work: what runs in the guest, and what its words mean.

A profile is a shell script for the guest, in two parts: `check` moves data whose checksums both sides know, `work` is
what is measured. Between the host's statistics "before" and "after" there is `work` and nothing else. The script
says its results in lines "result KEY VALUE". A VM may do several profiles, one after the other.
"""

import re

# Common to all: how the guest and mvm-compare take turns on the console, and which disk or port is meant.
COMMON = r"""
say() { echo "@compare $*"; }
turn() { say "$1"; while read -r word; do [ "$word" = go ] && return; done; }
disk() {
    for d in /sys/block/vd* /sys/block/nvme*n* /sys/block/sd* /sys/block/hd*; do
        # A path of a multipath NVMe namespace (nvme0c0n1) has no node: what is written to its name is a file in memory.
        [ -b "/dev/${d##*/}" ] && [ "$(cat "$d/size")" -ge 2048 ] && { echo "/dev/${d##*/}"; return; }
    done
}
port() {
    # The first serial port is the one that is talked on; those of no type are names without a port.
    for t in /sys/class/tty/hvc0 /sys/class/tty/ttyS[1-9]*; do
        case $(cat "$t/type" 2>/dev/null || echo "$t") in 0 | *"*") continue ;; esac
        [ -c "/dev/${t##*/}" ] && { echo "/dev/${t##*/}"; return; }
    done
}
percentiles() { sort -n | awk '{ v[NR] = $1 } END { if (NR) {
    say = "@compare result "; i = int(NR * .5 + .999999); j = int(NR * .99 + .999999)
    print say "p50_us " v[i ? i : 1]; print say "p99_us " v[j ? j : 1]; print say "operations " NR } }'; }
"""

BLK_CHECK = r"""
n=0; until d=$(disk); [ -n "$d" ]; do n=$((n + 1)); [ $n -lt 40 ] || { say failed no disk; exit 1; }; sleep .5; done
say result disk "$d"
say checksum read $(head -c {check_bytes} "$d" | sha256sum | cut -c1-64)
head -c 1048576 /dev/urandom >/tmp/data
dd if=/tmp/data of="$d" bs=65536 seek={write_block} conv=fsync 2>/dev/null
say checksum wrote $(sha256sum </tmp/data | cut -c1-64)
echo 3 >/proc/sys/vm/drop_caches
say checksum back $(dd if="$d" bs=65536 skip={write_block} count=16 2>/dev/null | sha256sum | cut -c1-64)
"""

FIO = r"""
d=$(disk)
fio --name=w --filename="$d" --offset={fio_offset} --size={fio_size} {fio} --ioengine={engine} --direct=1 --time_based \
    --runtime={seconds} --randrepeat=1 --norandommap --minimal 2>&1 | sed 's/^/@compare fio /'
"""

NET_CHECK = r"""
n=0; while ! ping -c 1 -W 1 {host_ip} >/dev/null 2>&1; do
    n=$((n + 1)); [ $n -lt 30 ] || { say failed no answer from {host_ip}; exit 1; }; done
say checksum read $(nc {host_ip} {data_port} </dev/null | sha256sum | cut -c1-64)
head -c 1048576 /dev/urandom >/tmp/data
nc {host_ip} {sink_port} </tmp/data >/dev/null 2>&1
say checksum wrote $(sha256sum </tmp/data | cut -c1-64)
"""

IPERF = r"""
iperf3 -c {host_ip} -p {iperf_port} -t {seconds} -f k {iperf} 2>&1 | sed 's/^/@compare iperf /'
"""

PINGPONG = r"""
end=$(($(cut -d. -f1 /proc/uptime) + {seconds}))
while ping -c 100 -A -W 1 {host_ip} 2>/dev/null; [ "$(cut -d. -f1 /proc/uptime)" -lt $end ]; do :; done |
    sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p' | awk '{ print $1 * 1000 }' | percentiles
"""

# Behind the port is somebody who gives back what comes. Lines are numbers: 15 bytes, as many as
# the queue of a 16550A surely takes (mtty's loses a sixteenth).
CONSOLE_FIRST = 10**13
CONSOLE_LINES = 64  # of which both sides know the checksum

CONSOLE_CHECK = r"""
d=$(port); [ -n "$d" ] || { say failed no port; exit 1; }
say port "$d"
stty -F "$d" raw -echo -crtscts clocal
exec 3<>"$d" 4>/tmp/back
stty raw -echo -crtscts clocal <&3
n={console_first}
there_and_back() {
    echo $n >&3
    read -r -t 20 back <&3 || { say failed "no answer from $d to $n"; exit 1; }
    [ "$back" = $n ] || { say failed "$d gave back $back instead of $n"; exit 1; }
    n=$((n + 1))
}
while [ $n -lt $(({console_first} + {console_lines})) ]; do there_and_back; echo "$back" >&4; done
say checksum wrote $(seq {console_first} $((n - 1)) | sha256sum | cut -c1-64)
say checksum back $(sha256sum </tmp/back | cut -c1-64)
"""

ECHO = r"""
exec 4>/tmp/times
end=$((${EPOCHREALTIME%.*} + {seconds})) now=0
while [ "${now%.*}" -lt $end ]; do
    begin=$EPOCHREALTIME
    there_and_back
    now=$EPOCHREALTIME
    echo "$begin $now" >&4
done
awk '{ printf "%d\n", ($2 - $1) * 1000000 }' /tmp/times | percentiles
"""


class Workload:
    def __init__(self, name, cls, summary, check, work, parse, op, depth=1, more=()):
        self.name, self.cls, self.summary = name, cls, summary
        self.check, self.work, self.parse = check, work, parse
        self.op = op  # what one operation is, for "per operation"
        self.depth = depth
        self.values = dict(more)

    def script(self, values):
        text = (self.check or "") + "\nturn before\n" + self.work + "\nturn after\nturn done\n"
        for key, value in {**values, **self.values}.items():
            text = text.replace("{%s}" % key, str(value))
        return text

    def data(self):
        return {"name": self.name, "class": self.cls, "summary": self.summary, "operation": self.op, "depth": self.depth}


def script(todo, values):
    """The guest's, for all of these profiles."""
    return COMMON + "".join(w.script(values) for w in todo)


def parse_fio(lines):
    """fio's terse output, version 3: HOWTO, "Terse output"."""
    result = {}
    for line in lines:
        fields = line.split(";")
        if len(fields) < 100 or fields[0] != "3":
            continue
        if fields[4] != "0":
            raise ValueError("fio ended with error %s" % fields[4])
        done = 0
        for start, percentiles in ((5, 17), (46, 58)):  # reads, writes
            kib, bw, iops, ms = (float(fields[start + i]) for i in range(4))
            if not kib:
                continue
            done += iops * ms / 1000
            result["throughput"] = result.get("throughput", 0) + bw * 1024
            result["iops"] = result.get("iops", 0) + iops
            for field in fields[percentiles:percentiles + 20]:
                percent, _, us = field.partition("=")
                for name, wanted in (("p50_us", 50.0), ("p99_us", 99.0)):
                    if percent.endswith("%") and float(percent[:-1]) == wanted:
                        result[name] = max(result.get(name, 0), float(us))
        result["operations"] = done
    if not result:
        raise ValueError("fio said nothing that could be understood: %s" % " ".join(lines)[:200])
    return result


IPERF_LINE = re.compile(r"\s([\d.]+)\s+(\w?)Bytes\s+([\d.]+)\s+Kbits/sec.*receiver")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_iperf(lines):
    found = [m for m in map(IPERF_LINE.search, lines) if m]
    if not found:
        raise ValueError("iperf3 said nothing that could be understood: %s" % " ".join(lines)[:200])
    last = found[-1]
    moved = float(last.group(1)) * UNITS[last.group(2)]
    return {"throughput": float(last.group(3)) * 125, "operations": moved / 65536}


DATAGRAMS_LINE = re.compile(r"\s([\d.]+)-([\d.]+)\s+sec\s.*\s(-?\d+)/(\d+)\s+\(.*receiver")


def parse_datagrams(lines):
    """What arrived; the sender is faster than any of these machines, so how many were lost says nothing of the card."""
    found = [m for m in map(DATAGRAMS_LINE.search, lines) if m]
    if not found:
        raise ValueError("iperf3 said nothing that could be understood: %s" % " ".join(lines)[:200])
    begin, end, lost, sent = (float(text) for text in found[-1].groups())
    arrived = sent - max(lost, 0)
    return {"packets": arrived / (end - begin) if end > begin else 0, "operations": arrived}


def parse_results(lines):
    values = {key: float(value) for key, _, value in (line.partition(" ") for line in lines)}
    if "operations" not in values:
        raise ValueError("the guest counted no operations")
    return values


def fio(name, summary, args, depth, engine="libaio"):
    return Workload(name, "blk", summary, BLK_CHECK, FIO, ("fio", parse_fio), "request", depth,
                    {"fio": args + " --iodepth=%d" % depth, "engine": engine})


PROFILES = {w.name: w for w in (
    fio("randread-1", "4 KiB random reads, one at a time", "--rw=randread --bs=4k", 1),
    fio("randread-32", "4 KiB random reads, 32 in flight", "--rw=randread --bs=4k", 32),
    fio("randwrite-1", "4 KiB random writes, one at a time", "--rw=randwrite --bs=4k", 1),
    fio("randwrite-32", "4 KiB random writes, 32 in flight", "--rw=randwrite --bs=4k", 32),
    fio("seqread", "128 KiB sequential reads, 8 in flight", "--rw=read --bs=128k", 8),
    Workload("tcp-out", "net", "one TCP stream from the guest (iperf3)", NET_CHECK, IPERF,
             ("iperf", parse_iperf), "64 KiB", more={"iperf": ""}),
    Workload("tcp-in", "net", "one TCP stream to the guest (iperf3)", NET_CHECK, IPERF,
             ("iperf", parse_iperf), "64 KiB", more={"iperf": "-R"}),
    Workload("udp-out", "net", "64-byte datagrams from the guest, as many as arrive (iperf3)", NET_CHECK, IPERF,
             ("iperf", parse_datagrams), "packet", more={"iperf": "-u -b 0 -l 64"}),
    Workload("udp-in", "net", "64-byte datagrams to the guest, as many as arrive (iperf3)", NET_CHECK, IPERF,
             ("iperf", parse_datagrams), "packet", more={"iperf": "-u -b 0 -l 64 -R"}),
    Workload("pingpong", "net", "a packet there and back, one at a time", NET_CHECK, PINGPONG,
             ("result", parse_results), "round trip"),
    Workload("echo", "console", "a line of 15 bytes to a serial port and back, one at a time", CONSOLE_CHECK, ECHO,
             ("result", parse_results), "round trip", more={"console_first": CONSOLE_FIRST, "console_lines": CONSOLE_LINES}),
)}
DEFAULTS = {"blk": ["randread-1", "randread-32"], "console": ["echo"], "net": ["pingpong", "tcp-out"]}


def command(shell):
    """A command of the user's: it takes as long as it takes, and is one operation."""
    work = "begin=$(cut -d' ' -f1 /proc/uptime)\n(%s\n) </dev/null; status=$?\n" % shell
    work += "end=$(cut -d' ' -f1 /proc/uptime)\n[ $status = 0 ] || say failed the command ended with status $status\n"
    work += "say result operations 1\nsay result p50_us $(awk \"BEGIN { print ($end - $begin) * 1000000 }\")\n"
    return Workload("command", None, shell, None, work, ("result", parse_results), "command")


def choose(names, classes, error):
    if not names:
        chosen = [name for cls in sorted(c for c in classes if c in DEFAULTS) for name in DEFAULTS[cls]]
        if not chosen:
            error("--workload is needed: there is no profile for %s" % ", ".join(sorted(classes)))
        return [PROFILES[name] for name in chosen]
    chosen = []
    for name in names:
        if name.startswith("command:"):
            chosen.append(command(name.partition(":")[2]))
        elif name in PROFILES:
            chosen.append(PROFILES[name])
        else:
            error("no workload %s; there are: %s, command:SHELL" % (name, ", ".join(sorted(PROFILES))))
    return chosen
