"""
Tests of the command: what it does when something is missing, wrong, or ends it from outside, and in
which state it leaves files and terminals.
"""

import os
import pty
import resource
import shutil
import signal
import struct
import subprocess
import termios
import time

from harness import Case, Tmp, connect, read_until, tail

CASES = []
SMALL = ["--memory=32M", "--no-reboot"]
READY = b"ready\n"
MUCH = b"the quick brown fox jumps over the lazy dog\n" * 3000  # what wait.c answers to o
CTRL_A = b"\x01"


def case(function):
    CASES.append((function.__name__, function))
    return function


def cases(mvm):
    return [Case("command:" + name, lambda report, f=function: f(mvm, report)) for name, function in CASES]


def wait_guest(mvm, *args):
    return ["--kernel=" + mvm.guest("wait")] + SMALL + list(args)


def is_root():
    return os.geteuid() == 0


def refused(mvm, report, what, args, *words, status=1, **popen):
    """It ends at once with this status and one line that holds these words."""
    run = mvm.start(args, **popen)
    got = run.wait(10)
    said = run.stderr()
    lines = said.strip().split("\n")
    good = (got == status and len(lines) == 1 and lines[0].startswith("mvm: ")
            and all(w in said for w in words))
    report.check(good, what, ["wanted status %d and one line with: %s" % (status, ", ".join(words)),
                              "status %s" % got] + run.said())


# ---- what is missing -------------------------------------------------------------------------------

@case
def no_kvm(mvm, report):
    """/dev/kvm away, or something else, in a mount namespace of its own."""
    if not is_root():
        report.skip("without /dev/kvm", "needs root for a mount namespace")
        return
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    refused(mvm, report, "without /dev/kvm", wait_guest(mvm, "--console=emulated:null"), "/dev/kvm",
            prefix=hidden)
    null = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/kvm && exec "$@"', "sh"]
    refused(mvm, report, "with a /dev/kvm that is none", wait_guest(mvm), "/dev/kvm", prefix=null)


@case
def no_permission(mvm, report):
    if not is_root():
        report.skip("as a user who may not open /dev/kvm", "needs root to become one")
        return
    if os.stat("/dev/kvm").st_mode & 0o006 == 0o006:
        report.skip("as a user who may not open /dev/kvm", "here everybody may")
        return
    with Tmp() as tmp:  # the build tree may be closed to others
        kernel = shutil.copy(mvm.guest("wait"), tmp)
        binary = shutil.copy(mvm.path, tmp)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        run = subprocess.run(nobody + [binary, "--kernel=" + kernel] + SMALL, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=20 * mvm.slow)
    report.check(run.returncode == 1 and "/dev/kvm" in run.stderr and "permission" in run.stderr,
                 "as a user who may not open /dev/kvm", tail(run.stderr))


@case
def no_memory(mvm, report):
    refused(mvm, report, "more memory than KVM takes",
            ["--kernel=" + mvm.guest("wait"), "--memory=16T"], "--memory")
    free = 0
    try:
        with open("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages") as f:
            free = int(f.read())
    except OSError:
        pass
    if free == 0:
        refused(mvm, report, "huge pages that the host has not",
                ["--kernel=" + mvm.guest("wait"), "--memory=1G,hugepages=1G"], "--memory", "huge")
    if mvm.sanitized:
        report.skip("with less address space than RAM", "the sanitizers need terabytes of it")
    else:
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        refused(mvm, report, "with less address space than RAM",
                ["--kernel=" + mvm.guest("wait"), "--memory=4G"], "--memory", preexec_fn=limit)
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
    run = mvm.start(wait_guest(mvm, "--cpus=16", "--rng=virtio"), preexec_fn=few_files)
    report.check(run.wait(10) == 1 and run.stderr().startswith("mvm: "),
                 "with twelve file descriptors", run.said())
    run.check_stderr(report, "any")

    def few_at_first():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    run = mvm.start(wait_guest(mvm, "--cpus=16", "--rng=virtio"), preexec_fn=few_at_first)
    report.check(run.wait_stdout(READY, 10), "with twelve, and more to be had for the asking", run.said())
    run.kill()


# ---- bad images ------------------------------------------------------------------------------------

def elf_field(data, offset, fmt, value):
    size = struct.calcsize(fmt)
    return data[:offset] + struct.pack(fmt, value) + data[offset + size:]


@case
def bad_images(mvm, report):
    with open(mvm.guest("wait"), "rb") as f:
        good = f.read()
    phoff = struct.unpack_from("<Q", good, 32)[0]
    images = [
        ("an empty kernel", b"", []),
        ("a kernel of one byte", b"\x7f", []),
        ("a text for a kernel", b"#!/bin/sh\nexec true\n" * 100, []),
        ("a kernel cut after its ELF header", good[:64], []),
        ("a kernel cut in its program headers", good[:100], []),
        ("a kernel cut in its code", good[:6000], ["truncated"]),
        ("a kernel for arm64", elf_field(good, 18, "<H", 183), ["arm64"]),
        ("a kernel for 32 bits", elf_field(elf_field(good, 18, "<H", 3), 4, "B", 1), ["32-bit"]),
        ("a kernel that is a relocatable object", elf_field(good, 16, "<H", 1), []),
        ("a kernel with segments on top of each other", elf_field(good, phoff + 56 + 24, "<Q", 0x100000),
         []),
        ("a kernel that goes where no RAM is", elf_field(good, phoff + 24, "<Q", 0x80000000), []),
        ("a kernel whose segment wraps", elf_field(good, phoff + 40, "<Q", 2**64 - 4096), []),
        ("a kernel with 65535 program headers", elf_field(good, 56, "<H", 65535), []),
        ("a damaged gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 500, []),
    ]
    with Tmp() as tmp:
        path = os.path.join(tmp, "kernel")
        for name, data, words in images:
            with open(path, "wb") as f:
                f.write(data)
            refused(mvm, report, name, ["--kernel=" + path] + SMALL, path, *words)
        refused(mvm, report, "no kernel at all", ["--kernel=%s/none" % tmp] + SMALL, tmp + "/none")
        refused(mvm, report, "a directory for a kernel", ["--kernel=" + tmp] + SMALL, tmp)
        with open(path, "wb") as f:
            f.truncate(64 << 20)
        refused(mvm, report, "an initrd larger than RAM", wait_guest(mvm, "--initrd=" + path), path)
        refused(mvm, report, "no initrd", wait_guest(mvm, "--initrd=%s/none" % tmp), tmp + "/none")
        refused(mvm, report, "a command line too long", wait_guest(mvm, "--cmdline=" + "x" * 5000),
                "command line")
        with open(path, "wb") as f:
            f.write(b"x" * 1000)
        refused(mvm, report, "no disk image", wait_guest(mvm, "--blk=virtio:%s/none" % tmp),
                "--blk=virtio:%s/none" % tmp)
        refused(mvm, report, "a directory for a disk", wait_guest(mvm, "--blk=virtio:" + tmp), tmp)


@case
def bad_places(mvm, report):
    """Consoles and links that cannot be made, and nothing of them left behind."""
    with Tmp() as tmp:
        taken = os.path.join(tmp, "taken")
        with open(taken, "w") as f:
            f.write("precious\n")
        for what in "file:%s/no/such/console" % tmp, "unix:%s/no/such/console" % tmp, "pty:%s/no/x" % tmp:
            refused(mvm, report, "--console=emulated:%s:…" % what.split(":")[0],
                    wait_guest(mvm, "--console=emulated:" + what), "/no/")
        refused(mvm, report, "a socket where a file is", wait_guest(mvm, "--console=emulated:unix:" + taken),
                taken)
        refused(mvm, report, "a pty link where a file is", wait_guest(mvm, "--console=emulated:pty:" + taken),
                taken)
        with open(taken) as f:
            report.check(f.read() == "precious\n", "the file is as it was")
        # The console is made before the disk is found missing.
        refused(mvm, report, "a start that fails half-way",
                wait_guest(mvm, "--console=emulated:unix:%s/s" % tmp, "--blk=virtio:%s/none" % tmp), "none")
        report.check(os.listdir(tmp) == ["taken"], "leaves nothing behind", os.listdir(tmp))


@case
def bad_usage(mvm, report):
    for what, args, word in (("an unknown flag", ["--kernal=x"], "--kernel"),
                             ("a value that is none", ["--cpus=many"], "--cpus"),
                             ("an argument", ["vmlinux"], "vmlinux"),
                             ("an unknown key", ["--blk=virtio:x,rw=on"], "rw")):
        run = mvm.start(args)
        report.check(run.wait(5) == 2 and word in run.stderr(), what + ": status 2", run.said())


# ---- terminal --------------------------------------------------------------------------------------

class Terminal:
    """A pty whose slave is the console of a run, in a session of its own as from a login."""

    def __init__(self, mvm, args, **popen):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.seconds = 10 * mvm.slow
        self.run = mvm.start(args, stdin=self.slave, stdout=self.slave, **popen)
        self.said = b""

    def expect(self, text):
        self.said += read_until(self.master, lambda got: text in self.said + got, self.seconds)
        return text in self.said

    def type(self, data):
        os.write(self.master, data)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        self.run.kill()
        os.close(self.master)
        os.close(self.slave)


def ends_tidily(mvm, report, name, args, end, status, popen=None):
    """However it ends, the terminal is as it was."""
    terminal = Terminal(mvm, args, **(popen or {}))
    try:
        ready = terminal.expect(b"ready")
        raw = terminal.is_raw()
        end(terminal)
        # Somebody must read what it still says, as a terminal would.
        terminal.said += read_until(terminal.master, lambda got: terminal.run.process.poll() is not None, 0.3)
        got = terminal.run.wait(10)
        report.check(ready and raw and got == status, "%s ends it with status %s" % (name, status),
                     ["ready %s, raw %s, status %s" % (ready, raw, got), repr(terminal.said[-200:])]
                     + terminal.run.said())
        report.check(terminal.is_as_before(), "%s leaves the terminal as it was" % name)
        terminal.run.check_stderr(report, "any")
    finally:
        terminal.close()


@case
def terminal_is_restored(mvm, report):
    args = wait_guest(mvm)
    ends_tidily(mvm, report, "power off", args, lambda t: t.type(b"q"), 0)
    ends_tidily(mvm, report, "Ctrl-A x", args, lambda t: t.type(CTRL_A + b"x"), 0)
    ends_tidily(mvm, report, "Ctrl-A x in one vCPU's endless sleep", args,
                lambda t: (t.type(b"s"), time.sleep(0.1), t.type(CTRL_A + b"x")), 0)
    ends_tidily(mvm, report, "a triple fault", args, lambda t: t.type(b"f"), 3)
    ends_tidily(mvm, report, "a panic", args, lambda t: t.type(b"p"), 3)
    for sig in signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT:
        ends_tidily(mvm, report, sig.name, wait_guest(mvm, "--cpus=2"),
                    lambda t, s=sig: t.run.process.send_signal(s), -sig)
    ends_tidily(mvm, report, "SIGSEGV from outside" if not mvm.sanitized else "SIGABRT from outside", args,
                lambda t: t.run.process.send_signal(
                    signal.SIGABRT if mvm.sanitized else signal.SIGSEGV),
                -(signal.SIGABRT if mvm.sanitized else signal.SIGSEGV))
    terminal = Terminal(mvm, wait_guest(mvm, "--blk=virtio:/nonexistent/disk"))
    report.check(terminal.run.wait(5) == 1 and terminal.is_as_before(),
                 "a failed start leaves the terminal as it was", terminal.run.said())
    terminal.close()


@case
def terminal_keys(mvm, report):
    """In raw mode all keys are the guest's, but for Ctrl-A."""
    terminal = Terminal(mvm, wait_guest(mvm))
    try:
        terminal.expect(b"ready")
        for name, data, answer in (("Ctrl-C", b"\x03", b"<3>"), ("Ctrl-Z", b"\x1a", b"<26>"),
                                   ("Ctrl-S", b"\x13", b"<19>"), ("Ctrl-D", b"\x04", b"<4>"),
                                   ("Return", b"\r", b"<13>"), ("Ctrl-A Ctrl-A", CTRL_A * 2, b"<1>"),
                                   ("a byte above 127", b"\xc3", b"<195>")):
            terminal.type(data)
            report.check(terminal.expect(answer), "%s reaches the guest" % name, [repr(terminal.said[-80:])])
        terminal.type(CTRL_A + b"h")
        report.check(terminal.expect(b"Ctrl-A"), "Ctrl-A h helps", [repr(terminal.said[-80:])])
        terminal.type(b"q")
        report.check(terminal.expect(b"bye") and terminal.run.wait(5) == 0, "and q ends it")
    finally:
        terminal.close()


@case
def stuck_terminal(mvm, report):
    """Nobody reads: the guest waits, Ctrl-A x and SIGTERM still work, and no byte is lost if he goes on."""
    terminal = Terminal(mvm, wait_guest(mvm))
    try:
        terminal.expect(b"ready")
        terminal.type(b"o")
        time.sleep(0.5)
        report.check(terminal.run.process.poll() is None, "a terminal that nobody reads holds the guest")
        terminal.expect(b"much\r\n")
        said = terminal.said.replace(b"\r", b"").split(READY)[1]
        report.check(said == MUCH + b"much\n", "read later, all of it is there", ["%d bytes" % len(said)])
        terminal.type(b"o")
        time.sleep(0.5)
        terminal.run.process.terminate()
        report.check(terminal.run.wait(5) == -signal.SIGTERM and terminal.is_as_before(),
                     "SIGTERM ends it while it is stuck", terminal.run.said())
    finally:
        terminal.close()


# ---- other standard streams ------------------------------------------------------------------------

@case
def streams(mvm, report):
    shutdown = ["--kernel=" + mvm.guest("shutdown")] + SMALL
    for name, script in (("stdin closed", 'exec "$@" <&-'), ("stdin and stderr closed", 'exec "$@" <&- 2>&-'),
                         ("stdin from a file", 'exec "$@" </etc/passwd'),
                         ("stdin a directory", 'exec "$@" </')):
        run = mvm.start(shutdown, prefix=["sh", "-c", script, "sh"])
        got = run.wait(10)
        report.check(got == 0 and b"\n1.." in run.stdout(), name, ["status %s" % got] + run.said())
    run = mvm.start(shutdown, prefix=["sh", "-c", 'exec "$@" >&-', "sh"])
    report.check(run.wait(10) in (0, 1), "stdout closed", run.said())
    reader, writer = os.pipe()
    os.close(reader)
    run = mvm.start(shutdown, stdout=writer)
    os.close(writer)
    report.check(run.wait(10) == 0, "stdout a pipe whose reader has gone", run.said())
    run.check_stderr(report, "any")

    # Where 0 is closed, no file that mvm opens may become what the guest is typed from.
    run = mvm.start(wait_guest(mvm), prefix=["sh", "-c", 'exec "$@" <&-', "sh"])
    ready = run.wait_stdout(READY, 5)
    time.sleep(0.3)
    report.check(ready and run.stdout().endswith(READY) and run.process.poll() is None,
                 "with stdin closed nobody types", run.said())
    run.kill()

    run = mvm.start(wait_guest(mvm), stdin=subprocess.PIPE)
    run.wait_stdout(READY, 5)
    run.process.stdin.write(CTRL_A + b"x!")
    run.process.stdin.close()
    heard = run.wait_stdout(b"<1>\n<120>\n<33>\n", 5)
    report.check(heard, "in a pipe Ctrl-A is a byte like others", run.said())
    report.check(run.process.poll() is None, "its end does not end the guest")
    run.process.terminate()
    report.check(run.wait(5) == -signal.SIGTERM, "SIGTERM does", run.said())
    run.check_stderr(report, "any")


@case
def console_file(mvm, report):
    with Tmp() as tmp:
        path = os.path.join(tmp, "log")
        run = mvm.start(["--kernel=" + mvm.guest("shutdown"), "--console=emulated:file:" + path] + SMALL)
        got = run.wait(10)
        with open(path, "rb") as f:
            text = f.read()
        report.check(got == 0 and b"ok 1 - " in text and text.endswith(b"1..4\n"),
                     "a file has all of it when mvm ends", [repr(text[-80:])] + run.said())
        report.check(run.stdout() == b"", "and stdout nothing")
    if os.path.exists("/dev/full"):
        run = mvm.start(["--kernel=" + mvm.guest("shutdown"), "--console=emulated:file:/dev/full"] + SMALL)
        report.check(run.wait(10) == 0, "a full disk does not stop the guest", run.said())


@case
def console_socket(mvm, report):
    with Tmp() as tmp:
        path = os.path.join(tmp, "console")
        run = mvm.start(wait_guest(mvm, "--console=emulated:unix:" + path))
        for turn in "a client", "the next client":
            with connect(run, path, 5) as s:
                s.sendall(b"!")
                got = read_until(s.fileno(), lambda text: b"<33>" in text, 5 * mvm.slow)
                report.check(b"<33>" in got, "%s is served" % turn, [repr(got)])
        refused(mvm, report, "a second mvm at a living socket",
                wait_guest(mvm, "--console=emulated:unix:" + path), path)
        run.process.terminate()
        report.check(run.wait(5) == -signal.SIGTERM and not os.listdir(tmp), "SIGTERM removes the socket",
                     run.said())
        # One that a killed mvm has left is taken over.
        run = mvm.start(wait_guest(mvm, "--console=emulated:unix:" + path))
        run.wait_until(lambda: os.path.exists(path), 5)
        run.kill()
        run = mvm.start(["--kernel=" + mvm.guest("shutdown"), "--console=emulated:unix:" + path] + SMALL)
        report.check(run.wait(10) == 0 and not os.path.exists(path), "a dead socket is taken over, and removed",
                     run.said())


@case
def console_pty(mvm, report):
    with Tmp() as tmp:
        link = os.path.join(tmp, "console")
        run = mvm.start(wait_guest(mvm, "--console=emulated:pty:" + link))
        run.wait_until(lambda: os.path.exists(link), 5)
        fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"!\r")
        got = read_until(fd, lambda text: b"<13>" in text, 5 * mvm.slow)
        os.close(fd)
        report.check(b"<33>" in got and b"<13>" in got, "a pty carries keys as they are", [repr(got)])
        fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"q")
        status = run.wait(5)
        os.close(fd)
        report.check(status == 0 and not os.path.lexists(link), "its link is removed at the end", run.said())


# ---- life ------------------------------------------------------------------------------------------

@case
def signals(mvm, report):
    """With processors that never rest and devices in use: it ends soon, and leaves nothing."""
    with Tmp() as tmp:
        disk = os.path.join(tmp, "disk")
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        for sig in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            run = mvm.start(wait_guest(mvm, "--cpus=4", "--rng=virtio", "--blk=virtio:" + disk))
            run.wait_stdout(READY, 10)
            start = time.monotonic()
            run.process.send_signal(sig)
            got = run.wait(5)
            took = time.monotonic() - start
            report.check(got == -sig and took < 1 * mvm.slow, "%s ends four busy processors" % sig.name,
                         ["status %s after %.2f s" % (got, took)] + run.said())
            run.check_stderr(report, "any")
        for chip in "split", "user":  # halted ones wait in mvm with "user"
            for cpus, state in ("4", "busy"), ("1", "halted"):
                run = mvm.start(wait_guest(mvm, "--cpus=" + cpus, "--irqchip=" + chip))
                run.wait_stdout(READY, 10)
                run.process.send_signal(signal.SIGTERM)
                report.check(run.wait(5) == -signal.SIGTERM, "SIGTERM ends %s processors, --irqchip=%s" % (state, chip),
                             run.said())
        report.check(os.listdir(tmp) == ["disk"], "nothing is left", os.listdir(tmp))

    def ignore_hup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = mvm.start(wait_guest(mvm), stdin=subprocess.PIPE, preexec_fn=ignore_hup)
    run.wait_stdout(READY, 10)
    run.process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    report.check(run.process.poll() is None, "a SIGHUP that nohup has ignored stays ignored")
    run.process.stdin.write(b"q")
    run.process.stdin.flush()
    report.check(run.wait(5) == 0, "and it goes on", run.said())


@case
def stopped_and_continued(mvm, report):
    terminal = Terminal(mvm, wait_guest(mvm, "--cpus=2"))
    try:
        terminal.expect(READY.strip())
        terminal.run.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        terminal.run.process.send_signal(signal.SIGCONT)
        terminal.type(b"!")
        report.check(terminal.expect(b"<33>") and terminal.is_raw(), "goes on after SIGSTOP and SIGCONT",
                     [repr(terminal.said[-80:])])
        terminal.type(b"q")
        report.check(terminal.run.wait(5) == 0 and terminal.is_as_before(), "and ends as it should")
    finally:
        terminal.close()


@case
def no_reboot(mvm, report):
    run = mvm.start(wait_guest(mvm), stdin=subprocess.PIPE)
    run.wait_stdout(READY, 5)
    run.process.stdin.write(b"r")
    run.process.stdin.flush()
    report.check(run.wait(5) == 0 and run.stdout().count(READY) == 1, "--no-reboot ends at a reset",
                 run.said())
    run = mvm.start(wait_guest(mvm, "--no-reboot=off"), stdin=subprocess.PIPE)
    for times in 1, 2, 3:
        if not run.wait_until(lambda n=times: run.stdout().count(READY) == n, 5):
            break
        run.process.stdin.write(b"r" if times < 3 else b"q")
        run.process.stdin.flush()
    report.check(run.wait(5) == 0 and run.stdout().count(READY) == 3, "without it the guest starts again",
                 run.said())


@case
def kernel_gone_at_reboot(mvm, report):
    """The kernel file was opened at the start: a reboot does not look for it again."""
    with Tmp() as tmp:
        kernel = shutil.copy(mvm.guest("wait"), tmp)
        run = mvm.start(["--kernel=" + kernel, "--memory=32M"], stdin=subprocess.PIPE)
        run.wait_stdout(READY, 5)
        os.unlink(kernel)
        run.process.stdin.write(b"r")
        run.process.stdin.flush()
        again = run.wait_until(lambda: run.stdout().count(READY) == 2, 5)
        report.check(again, "a reboot after the kernel's file has gone", run.said())
        run.process.terminate()
        run.wait(5)
