"""Starting mvm, talking to it, and noting what came of it: shared by guests.py and command.py."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:")
TAIL = 12  # lines shown of what a failed run said


def tail(text):
    lines = text.rstrip("\n").split("\n")
    return (["…"] if len(lines) > TAIL else []) + lines[-TAIL:]


class Result:
    def __init__(self, name, failed=False, skip=None, why=()):
        self.name, self.failed, self.skip, self.why = name, failed, skip, list(why)

    def tap(self, number):
        text = "%sok %d - %s" % ("not " if self.failed else "", number, self.name)
        return text + (" # SKIP " + self.skip if self.skip else "")


class Report:
    """The results of one case, in order."""

    def __init__(self, name):
        self.name = name
        self.results = []

    def check(self, ok, what, why=()):
        self.results.append(Result("%s: %s" % (self.name, what), not ok, why=() if ok else why))
        return ok

    def fail(self, what, why=()):
        self.check(False, what, why)

    def skip(self, what, why):
        self.results.append(Result("%s: %s" % (self.name, what), skip=why))


class Case:
    def __init__(self, name, run):
        self.name = name
        self.run = run  # called with a Report


class Mvm:
    """The binary under test."""

    def __init__(self, path, slow=1, verbose=False):
        self.path = os.path.abspath(path)
        self.guests = os.path.join(os.path.dirname(self.path), "tests", "guest")
        self.verbose = verbose
        self.sanitized = self._is_sanitized()
        self.slow_host = slow > 1
        self.slow = slow * (6 if self.sanitized else 1)  # of all time limits

    def _is_sanitized(self):
        try:
            with open(self.path, "rb") as f:
                content = f.read()
            return b"__asan_init" in content or b"__tsan_init" in content
        except OSError:
            return False

    def guest(self, name):
        return os.path.join(self.guests, name + ".elf")

    def cannot_run(self):
        """Why nothing can be tested here, or None."""
        if not os.path.exists("/dev/kvm"):
            return "there is no /dev/kvm on this machine: this CPU or kernel offers no KVM"
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return "/dev/kvm is not open to this user: run as root or join its group"
        return None

    def start(self, args, **popen):
        return Run(self, args, **popen)


class Run:
    """
    One mvm process. What it says on stdout and stderr goes to files, so that nothing it does can block
    it, and everything is there afterwards.
    """

    def __init__(self, mvm, args, prefix=(), stdin=subprocess.DEVNULL, stdout=None, stderr=None, **popen):
        self.mvm = mvm
        self.args = list(prefix) + [mvm.path] + list(args)
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.killed_after = None
        env = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1", **popen.pop("env", {}))
        self.process = subprocess.Popen(
            self.args, stdin=stdin, stdout=stdout or self.out, stderr=stderr or self.err, env=env,
            start_new_session=popen.pop("start_new_session", True), **popen)

    @staticmethod
    def _read(file):
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)

    def stdout(self):
        return self._read(self.out)

    def stderr(self):
        return self._read(self.err).decode(errors="replace")

    def wait(self, seconds):
        """The exit status, negative for a signal; None if it had to be killed."""
        try:
            return self.process.wait(seconds * self.mvm.slow)
        except subprocess.TimeoutExpired:
            self.killed_after = seconds * self.mvm.slow
            self.kill()
            return None

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def wait_stdout(self, text, seconds):
        """Waits for these bytes on stdout."""
        return self.wait_until(lambda: text in self.stdout(), seconds)

    def wait_until(self, condition, seconds):
        end = time.monotonic() + seconds * self.mvm.slow
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                return condition()
            time.sleep(0.005)
        return True

    def said(self):
        """For the report of a failure."""
        lines = [" ".join(self.args)]
        if self.killed_after:
            lines.append("killed: it had not ended after %d s" % self.killed_after)
        for name, text in (("stdout", self.stdout().decode(errors="replace")), ("stderr", self.stderr())):
            if text:
                lines.append("its %s ends with:" % name)
                lines += ["  " + line for line in tail(text)]
        return lines

    def check_end(self, report, status, seconds, stderr=None):
        """Waits for the end and checks status, sanitizers, and what was said on stderr."""
        got = self.wait(seconds)
        report.check(got == status, "ends with status %s" % status,
                     ["it ended with %s" % got] + self.said())
        self.check_stderr(report, stderr)

    def check_stderr(self, report, stderr):
        said = self.stderr()
        if self.mvm.sanitized or SANITIZER.search(said):
            report.check(not SANITIZER.search(said), "nothing from the sanitizers", said.split("\n"))
        if stderr is None:
            report.check(not said, "nothing on stderr", tail(said))
        elif stderr != "any":
            report.check(stderr in said, "says \"%s\"" % stderr, self.said())


class Tmp:
    """A directory for one case."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="mvm-guest-")
        os.chmod(self.path, 0o755)
        return self.path

    def __exit__(self, *exc):
        shutil.rmtree(self.path, ignore_errors=True)


def connect(run, path, seconds):
    """A socket connected to the console at path as soon as somebody listens there, or None."""
    s = socket.socket(socket.AF_UNIX)

    def try_it():
        try:
            s.connect(path)
            return True
        except OSError:
            return False
    if run.wait_until(try_it, seconds):
        return s
    s.close()
    return None


def read_until(fd, done, seconds):
    """Reads from fd until done(all so far), the end, or the time is over; returns what came."""
    got = b""
    end = time.monotonic() + seconds
    while not done(got):
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            break
        try:
            part = os.read(fd, 65536)
        except OSError:  # the other end of a pty has gone
            break
        if not part:
            break
        got += part
    return got
