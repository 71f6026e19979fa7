"""
Tests of what mvm tells about itself while it runs and when it ends: --stats, SIGUSR1,
--stats-interval. That the numbers are right is counts.c's and host.py's to test.
"""

import fcntl
import json
import os
import pty
import signal
import stat
import struct
import subprocess
import termios

from command import READY, Terminal, refused, wait_guest
from harness import Case, Tmp, read_until

CASES = []


def case(function):
    CASES.append((function.__name__, function))
    return function


def cases(mvm):
    return [Case("measure:" + name, lambda report, f=function: f(mvm, report)) for name, function in CASES]


def load(path):
    """The JSON there, or None: not there yet, or not whole (which must not be)."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return None


def device(stats, name):
    return next(d for d in stats["devices"] if d["name"] == name)


@case
def stats_however_it_ends(mvm, report):
    for name, key, status in (("power off", b"q", 0), ("a panic", b"p", 3), ("a triple fault", b"f", 3)):
        with Tmp() as tmp:
            path = os.path.join(tmp, "stats")
            run = mvm.start(wait_guest(mvm, "--stats=" + path), stdin=subprocess.PIPE)
            run.wait_stdout(READY, 5)
            run.process.stdin.write(key)
            run.process.stdin.flush()
            got = run.wait(5)
            stats = load(path)
            report.check(got == status and stats and stats["status"] == status and stats["why"] == "exit"
                         and device(stats, "console0")["pio_writes"] > 0, name, run.said())
            run.check_stderr(report, "any")
    with Tmp() as tmp:
        path = os.path.join(tmp, "stats")
        run = mvm.start(wait_guest(mvm, "--stats=" + path, "--console=emulated:null"))
        run.wait_until(lambda: os.path.exists("/proc/%d/task" % run.process.pid)
                       and len(os.listdir("/proc/%d/task" % run.process.pid)) > 1, 5)
        run.process.send_signal(signal.SIGTERM)
        got = run.wait(5)
        stats = load(path)
        report.check(got == -signal.SIGTERM and stats and stats["status"] == 1, "SIGTERM", run.said())


@case
def stats_on_request(mvm, report):
    with Tmp() as tmp:
        path = os.path.join(tmp, "stats")
        run = mvm.start(wait_guest(mvm, "--stats=" + path, "--cpus=2"), stdin=subprocess.PIPE)
        try:
            run.wait_stdout(READY, 5)
            report.check(not os.path.exists(path), "nothing is written before it is asked for")
            run.process.send_signal(signal.SIGUSR1)
            there = run.wait_until(lambda: os.path.exists(path), 5)
            first = load(path)
            report.check(there and first["why"] == "signal" and "status" not in first,
                         "SIGUSR1 writes the file", run.said())
            # However often it is replaced, whoever reads it sees a whole one.
            whole = 0
            for _ in range(100):
                run.process.send_signal(signal.SIGUSR1)
                whole += load(path)["why"] == "signal"
            report.check(whole == 100, "a file that is being replaced is always whole")
            run.process.stdin.write(b"!")
            run.process.stdin.flush()
            report.check(run.wait_stdout(b"<33>", 5), "the guest goes on", run.said())
            before = device(load(path), "console0")["exits"]
            run.process.send_signal(signal.SIGUSR1)
            report.check(run.wait_until(lambda: device(load(path), "console0")["exits"] > before, 5),
                         "and counts further")
        finally:
            run.kill()


@case
def stats_to_stderr(mvm, report):
    run = mvm.start(wait_guest(mvm))
    try:
        run.wait_stdout(READY, 5)
        run.process.send_signal(signal.SIGUSR1)
        run.wait_until(lambda: run.stderr().endswith("}\n"), 5)
        try:
            good = json.loads(run.stderr())["why"] == "signal"
        except ValueError:
            good = False
        report.check(good, "SIGUSR1 without --stats tells stderr", run.said())
    finally:
        run.kill()


@case
def stats_elsewhere(mvm, report):
    with Tmp() as tmp:
        wrong = os.path.join(tmp, "no", "such", "file")
        refused(mvm, report, "a place that cannot be written", wait_guest(mvm, "--stats=" + wrong), wrong)
        refused(mvm, report, "a directory", wait_guest(mvm, "--stats=" + tmp), "directory")
        report.check(os.listdir(tmp) == [], "nothing is left behind", os.listdir(tmp))
        path = os.path.join(tmp, "stats")
        with open(path, "w", encoding="utf-8") as f:
            f.write("older\n")
        run = mvm.start(wait_guest(mvm, "--stats=" + path, "--no-reboot"), stdin=subprocess.PIPE)
        run.wait_stdout(READY, 5)
        with open(path, encoding="utf-8") as f:
            report.check(f.read() == "older\n", "an older file stays until there is a new one")
        run.process.stdin.write(b"q")
        run.process.stdin.flush()
        report.check(run.wait(5) == 0 and load(path)["status"] == 0, "and is replaced then", run.said())
    run = mvm.start(wait_guest(mvm, "--stats=/dev/stdout", "--console=emulated:null"))
    run.wait_until(lambda: len(os.listdir("/proc/%d/task" % run.process.pid)) > 1, 5)
    run.process.send_signal(signal.SIGTERM)
    run.wait(5)
    report.check(json.loads(run.stdout())["status"] == 1 and stat.S_ISLNK(os.lstat("/dev/stdout").st_mode),
                 "--stats=/dev/stdout writes there", run.said())


# ---- traces ----------------------------------------------------------------------------------------

PHASES = {  # of the Trace Event Format: what an event of each must have besides
    "X": {"tid", "ts", "dur", "cat", "name"},
    "i": {"tid", "ts", "s", "cat", "name"},
    "b": {"tid", "ts", "cat", "name", "id"},
    "n": {"tid", "ts", "cat", "name", "id"},
    "e": {"tid", "ts", "cat", "name", "id"},
    "s": {"tid", "ts", "cat", "name", "id"},
    "t": {"tid", "ts", "cat", "name", "id"},
    "f": {"tid", "ts", "cat", "name", "id", "bp"},
    "M": {"name"},
}


def around(slices, event):
    """The slices of its thread that an arrow's end can bind to."""
    return [s for s in slices if s["tid"] == event["tid"]
            and s["ts"] - 0.002 <= event["ts"] <= s["ts"] + s["dur"] + 0.002]


def counts_run(mvm, tmp, *args):
    disk = os.path.join(tmp, "disk")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    run = mvm.start(["--kernel=" + mvm.guest("counts"), "--memory=64M", "--no-reboot",
                     "--console=emulated:null", "--console=emulated:null",
                     "--blk=virtio:" + disk, "--rng=virtio", "--rng=virtio"] + list(args))
    return run, run.wait(20)


@case
def trace_file(mvm, report):
    """A trace of known work is what the format wants, and every arrow has both its ends."""
    with Tmp() as tmp:
        path = os.path.join(tmp, "trace")
        run, status = counts_run(mvm, tmp, "--trace=%s,kicks=exit" % path,
                                 "--stats=" + os.path.join(tmp, "stats"))
        events = load(path)
        stats = load(os.path.join(tmp, "stats"))
    report.check(status == 0 and isinstance(events, list) and len(events) > 1000, "a file that loads", run.said())
    wrong = [e for e in events if e.get("ph") not in PHASES or e.get("pid") != 1
             or not PHASES[e["ph"]] <= e.keys() or not all(e[k] >= 0 for k in ("ts", "dur") if k in e)]
    report.check(not wrong, "each event is as the format wants it", [str(wrong[:3])])
    slices = [e for e in events if e["ph"] == "X"]
    threads = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    report.check({"vcpu0", "blk0"} <= threads, "threads have their names", [str(threads)])
    arrows = {}
    for e in events:
        if e["ph"] in "stf":
            arrows.setdefault((e["cat"], e["id"]), []).append(e)
    kinds = {}
    for (category, _), ends in arrows.items():
        kinds.setdefault(category, []).append("".join(e["ph"] for e in sorted(ends, key=lambda e: (e["ts"], "stf".index(e["ph"])))))
    report.check(set(kinds) == {"kick", "path"} and set(kinds["kick"]) == {"sf"} and set(kinds["path"]) == {"stf"},
                 "each arrow begins once and ends once", [str({k: sorted(set(v)) for k, v in kinds.items()})])
    loose = [e for ends in arrows.values() for e in ends if not around(slices, e)]
    report.check(not loose, "and both ends are in something that somebody did", [str(loose[:3])])
    # counts.c: 28 requests of the disk, 16 random numbers, a doorbell for all but 7 of them.
    report.check(len(kinds["path"]) == 28 + 16 and len(kinds["kick"]) == 21 + 16, "one for each request and doorbell",
                 ["%d and %d" % (len(kinds["path"]), len(kinds["kick"]))])
    lives = {phase: [e["id"] for e in events if e["ph"] == phase] for phase in "be"}
    report.check(sorted(lives["b"]) == sorted(lives["e"]) and len(set(lives["b"])) == 44, "each request begins and ends")
    operations = [e["args"]["operation"] for e in events if e["ph"] == "n"]
    report.check(operations.count("write") == 20 and operations.count("read") == 8, "and says what it is",
                 [str(operations)])
    blk = device(stats, "blk0")
    names = [e["name"] for e in slices]
    report.check(names.count("blk0 interrupt") == blk["irqs_ioctl"]
                 and names.count("blk0 write doorbell") == 21 == blk["kicks_exit"],
                 "interrupts and doorbells as counted", [str(blk)])
    scratch = [e for e in slices if e["name"] == "console1 write SCR"]
    report.check([e["args"]["value"] for e in scratch] == ["0x%x" % i for i in range(100)],
                 "accesses by name, in order, with their values", [str(scratch[:3])])
    report.check(events[-1]["args"]["dropped"] == 0, "nothing was dropped", [str(events[-1])])


@case
def trace_of_some(mvm, report):
    with Tmp() as tmp:
        path = os.path.join(tmp, "trace")
        counts_run(mvm, tmp, "--trace=%s,devices=rng0+console1" % path)
        owners = {e["name"].split()[0] for e in load(path) if e["ph"] == "X"}
        report.check(owners == {"rng0", "console1"}, "only the devices named", [str(owners)])
        with open(path, "w", encoding="utf-8") as f:
            f.write("older\n")
        refused(mvm, report, "a device that is not there", wait_guest(mvm, "--trace=%s,devices=rng7" % path), "rng7",
                "console0")
        with open(path, encoding="utf-8") as f:
            report.check(f.read() == "older\n", "leaves an older trace alone")
        wrong = os.path.join(tmp, "no", "trace")
        refused(mvm, report, "a place that cannot be written", wait_guest(mvm, "--trace=" + wrong), wrong)


@case
def trace_text(mvm, report):
    with Tmp() as tmp:
        run, status = counts_run(mvm, tmp, "--trace=text,devices=blk0,kicks=exit")
        said = run.stderr().split("\n")
    first = [line.split(None, 3) for line in said if "request 1 " in line or "request 1:" in line]
    report.check(status == 0 and len(first) == 3 and first[0][3] == "request 1 is taken"
                 and first[1][3] == "request 1: write, 512 bytes at 0"
                 and first[2][3].startswith("request 1 is given back after "), "the life of a request in three lines",
                 [str(first)] + run.said())
    times = [float(line.split()[0]) for line in said if line]
    report.check(len(times) > 100 and all(line.split()[2] == "blk0" for line in said if line),
                 "a line an event, with thread and device")


@case
def trace_is_bounded(mvm, report):
    """A guest that does nothing but exits: the file keeps its limit, and what is missing is said."""
    with Tmp() as tmp:
        path = os.path.join(tmp, "trace")
        run = mvm.start(wait_guest(mvm, "--cpus=2", "--trace=%s,limit=64K" % path), stdin=subprocess.PIPE)
        run.wait_stdout(READY, 5)
        report.check(run.wait_until(lambda: "limit" in run.stderr(), 20), "the limit is said once", run.said())
        run.process.stdin.write(b"q")
        run.process.stdin.flush()
        report.check(run.wait(10) == 0 and run.stderr().count("\n") == 1, "and the guest goes on", run.said())
        run.check_stderr(report, "any")
        report.check(os.path.getsize(path) < 80 << 10, "the file is as long as that", [str(os.path.getsize(path))])
        last = load(path)[-1]["args"]
        report.check(last["over_limit"] > 0, "and says what is missing", [str(last)])


@case
def live_table(mvm, report):
    run = mvm.start(wait_guest(mvm, "--stats-interval=100ms", "--rng=virtio"))
    try:
        run.wait_stdout(READY, 5)
        report.check(run.wait_until(lambda: run.stderr().count("req/s") >= 3, 5),
                     "a table after the other where stderr is no terminal", run.said())
        said = run.stderr()
        report.check("\033" not in said and "rng0 " in said and "console0" in said and "\r" not in said,
                     "plain text, a line a device", run.said())
    finally:
        run.kill()
    # A terminal of its own: redrawn in place, cut to its width.
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    run = mvm.start(wait_guest(mvm, "--stats-interval=100ms"), stderr=slave)
    try:
        said = read_until(master, lambda got: got.count(b"req/s") >= 3, 5 * mvm.slow)
        lines = [line.split(b"\033[K")[0] for line in said.split(b"\r\n")]
        report.check(said.count(b"req/s") >= 3 and said.count(b"A" + b"mvm, after") >= 2
                     and max(len(line.split(b"A")[-1]) for line in lines[:-1]) <= 60,
                     "redrawn in place on a terminal of its own", [repr(said[-600:])])
    finally:
        run.kill()
        os.close(master)
        os.close(slave)
    # The console's own terminal: whole lines, nothing that moves the cursor.
    terminal = Terminal(mvm, wait_guest(mvm, "--stats-interval=100ms"), stderr=subprocess.STDOUT)
    try:
        ready = terminal.expect(READY.strip())
        terminal.type(b"!")
        report.check(ready and terminal.expect(b"<33>") and terminal.expect(b"mvm: console0  req/s"),
                     "lines between the guest's on its own terminal", [repr(terminal.said[-300:])])
        report.check(b"\033" not in terminal.said and b"cpu 0%\n" not in terminal.said,
                     "each ended as a raw terminal wants it", [repr(terminal.said[-300:])])
        terminal.type(b"q")
        report.check(terminal.run.wait(5) == 0 and terminal.is_as_before(), "and the terminal is put back")
    finally:
        terminal.close()
