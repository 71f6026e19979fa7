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
