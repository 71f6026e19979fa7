"""The guests as their files declare them: see run."""

import glob
import os
import re

import host
from harness import Case, Tmp

KEY = re.compile(r"^ \* (mvm|status|seconds|stderr|reboots|run):[ ]?(.*)$")
CHECK = re.compile(r"^(ok|not ok) (\d+) - (.*)$")


class Guest:
    def __init__(self, path):
        self.name = os.path.basename(path)[:-2]
        self.runs = []
        self.status, self.seconds, self.stderr, self.reboots, self.alone = 0, 10, None, False, True
        with open(path) as f:
            opening = f.read().split("*/")[0]
        for line in opening.split("\n"):
            match = KEY.match(line)
            if not match:
                continue
            key, value = match.groups()
            if re.search(r"\b(mvm|status|seconds|stderr): ", value):
                raise SystemExit("%s: two declarations on one line (clang-format?): %s" % (path, line))
            if key == "mvm":
                self.runs.append(value.strip())
            elif key == "status":
                self.status = int(value)
            elif key == "seconds":
                self.seconds = int(value)
            elif key == "stderr":
                self.stderr = value.strip()
            elif key == "reboots":
                self.reboots = True
            elif key == "run":
                self.alone = False
        if self.alone and not self.runs:
            raise SystemExit("%s: no \"mvm:\" line says how it is run" % path)


def checks(output, report):
    """The guest's own results into the report; it must have got to its plan."""
    planned = seen = 0
    last = None
    for line in output.decode(errors="replace").split("\n"):
        line = line.rstrip("\r")
        match = CHECK.match(line)
        if match:
            seen += 1
            name, _, skip = match.group(3).partition(" # SKIP ")
            if skip:
                report.skip(name, skip)
            else:
                report.check(match.group(1) == "ok", name)
            last = report.results[-1]
        elif line.startswith("#") and last and last.failed:
            last.why.append(line)
        elif line.startswith("1.."):
            planned = int(line[3:])
        elif line.startswith("Bail out!"):
            report.fail(line)
    return planned == seen and seen > 0


def run_guest(mvm, guest, args, report):
    with Tmp() as tmp:
        words = args.replace("@tmp", tmp).split()
        if not any(w.startswith("--memory") for w in words):
            words.append("--memory=64M")
        if not guest.reboots and "--no-reboot" not in words:
            words.append("--no-reboot")
        there = host.HOSTS.get(guest.name, host.Host)(mvm, tmp, words)
        words += there.prepare()
        run = mvm.start(["--kernel=" + mvm.guest(guest.name)] + words, **there.popen())
        try:
            there.talk(run, report)
            status = run.wait(guest.seconds)
        finally:
            run.kill()
        output = there.output(run)
        complete = checks(output, report)
        report.check(status == guest.status and complete,
                     "runs to its end, status %d" % guest.status,
                     ["it ended with %s%s" % (status, "" if complete else ", not all checks were made")]
                     + run.said())
        run.check_stderr(report, guest.stderr)
        there.finish(run, report)
        if mvm.verbose:
            report.results[-1].why += run.said()


def cases(here, mvm, also=""):
    result = []
    for path in sorted(glob.glob(os.path.join(here, "*.c"))):
        guest = Guest(path)
        if not guest.alone:
            continue
        for args in guest.runs:
            args = " ".join((args, also)).strip()
            name = guest.name + (" " + args if args else "")
            result.append(Case(name, lambda report, g=guest, a=args: run_guest(mvm, g, a, report)))
    return result
