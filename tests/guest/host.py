"""What the host does for a guest, and checks after it: one class a guest that needs it."""

import os
import struct
import subprocess
import threading
import time

from harness import connect, read_until

MASK = (1 << 64) - 1
SECTOR = 512


def random64(state):
    """As random64() in lib/memory.c."""
    state ^= state << 13 & MASK
    state ^= state >> 7
    state ^= state << 17 & MASK
    return state


def random_bytes(seed, n):
    words = []
    for _ in range(n // 8):
        seed = random64(seed)
        words.append(seed)
    return struct.pack("<%dQ" % len(words), *words)


def pattern(sector, count, key):
    """What sector_pattern() in virtio.c makes: each 64-bit word says where it belongs."""
    return b"".join(struct.pack("<64Q", *((s << 16 | i) ^ key for i in range(64)))
                    for s in range(sector, sector + count))





class Host:
    """The defaults: console on stdout, nothing to do."""

    def __init__(self, mvm, tmp, words):
        self.mvm, self.tmp, self.words = mvm, tmp, words

    def prepare(self):
        """More arguments for mvm; makes the files they name."""
        return []

    def popen(self):
        """How to start it, besides: stdin and the like."""
        return {}

    def talk(self, run, report):
        """While it runs."""

    def output(self, run):
        """What the guest said on its console."""
        return run.stdout()

    def finish(self, run, report):
        """After it has ended."""



class Acpi(Host):
    """The guest is told how many processors it was given."""

    def prepare(self):
        cpus = [w.split("=")[1] for w in self.words if w.startswith("--cpus=")]
        return ["--append=cpus=%d" % int(cpus[0])]


class Rtc(Host):
    """… and what time it is."""

    def prepare(self):
        return ["--append=now=%d" % time.time()]


class Pci(Host):
    """A disk that nobody looks into."""

    def prepare(self):
        with open(os.path.join(self.tmp, "disk"), "wb") as f:
            f.truncate(1 << 20)
        return []


class Uart(Host):
    """Types 64 KiB when asked to, and gets them back."""

    SEED = 0x6d766d2d75617274
    START, PLAN = b"# type\n", b"\n1.."

    def __init__(self, *args):
        super().__init__(*args)
        self.where = next((w.split(":", 1)[1] for w in self.words if w.startswith("--console")), "stdio")
        self.got = b""
        self.typed = random_bytes(self.SEED, 4096 if self.mvm.slow_host else 65536)

    def prepare(self):
        return ["--append=typed=%d" % len(self.typed)]

    def popen(self):
        return {"stdin": subprocess.PIPE} if self.where == "stdio" else {}

    def _connect(self, run):
        """A file descriptor that reads and writes the console."""
        path = self.where.split(":")[1]
        if self.where.startswith("pty"):
            there = run.wait_until(lambda: os.path.exists(path), 5)
            return os.open(path, os.O_RDWR | os.O_NOCTTY) if there else None
        s = connect(run, path, 5)
        return s.detach() if s else None

    def talk(self, run, report):
        limit = 15 * self.mvm.slow
        if self.where == "stdio":
            if run.wait_stdout(self.START, 5):
                run.process.stdin.write(self.typed)
                run.process.stdin.flush()
            if run.wait_stdout(self.PLAN, limit):
                run.process.stdin.write(b"!")
                run.process.stdin.flush()
            run.wait(limit)
            self.got = run.stdout()
            return
        fd = self._connect(run)
        if fd is None:
            report.fail("the console appears at %s" % self.where, run.said())
            return
        self.got = read_until(fd, lambda got: self.START in got, 5 * self.mvm.slow)
        # Both ways at once: whoever only writes fills the other's buffers.
        writer = threading.Thread(target=self._type, args=(fd,), daemon=True)
        writer.start()
        self.got += read_until(fd, lambda got: self.PLAN in got[len(self.typed):], limit)
        writer.join(1)
        try:
            os.write(fd, b"!")
        except OSError:
            pass
        run.wait(limit)
        os.close(fd)

    def _type(self, fd):
        data = self.typed
        try:
            while data:
                data = data[os.write(fd, data):]
        except OSError:
            pass  # mvm has gone; the missing echo tells

    def output(self, run):
        before, _, after = self.got.partition(self.START)
        return before + after[len(self.typed):]

    def finish(self, run, report):
        echo = self.got.partition(self.START)[2][:len(self.typed)]
        same = next((i for i, (a, b) in enumerate(zip(echo, self.typed)) if a != b), len(echo))
        report.check(echo == self.typed, "the echo is what was typed",
                     ["%d bytes came back; the first %d are right" % (len(echo), same)])


class Disk(Host):
    """An image of known content, which must be as the guest left it."""

    SECTORS = 2048
    KEY_HOST, KEY_GUEST = 0x1122334455667788, 0x99aabbccddeeff00
    FIRST, COUNT = 100, 12

    def prepare(self):
        self.disk = os.path.join(self.tmp, "disk")
        self.content = pattern(0, self.SECTORS, self.KEY_HOST)
        with open(self.disk, "wb") as f:
            f.write(self.content)
        return []

    def finish(self, run, report):
        if not any("ro=on" in w for w in self.words):
            written = pattern(self.FIRST, self.COUNT, self.KEY_GUEST)
            start = self.FIRST * SECTOR
            self.content = self.content[:start] + written + self.content[start + len(written):]
        with open(self.disk, "rb") as f:
            report.check(f.read() == self.content, "the image holds what the guest wrote, and no more")


HOSTS = {
    "acpi": Acpi,
    "pci": Pci,
    "hostile": Pci,
    "ide": Pci,
    "misuse": Pci,
    "nvme": Pci,
    "reset": Pci,
    "rings": Pci,
    "rtc": Rtc,
    "uart": Uart,
    "virtio": Disk,
}
