"""What the host does for a guest, and checks after it: one class a guest that needs it."""

import json
import os
import re
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


class Devices(Host):
    """A victim more, and a bystander; the first console is the guest's own."""

    def prepare(self):
        self.words.insert(0, "--console=emulated")
        return ["--rng=virtio", "--rng=virtio"]


class Uart(Host):
    """Types 64 KiB when asked to, and gets them back."""

    SEED = 0x6d766d2d75617274
    START, PLAN = b"# type\n", re.compile(rb"\n1\.\.\d+\r?\n")  # the whole line: it may come byte by byte

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
            if run.wait_stdout(b"\n1..", limit):
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
        self.got += read_until(fd, lambda got: self.PLAN.search(got[len(self.typed):]), limit)
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


class Counts(Disk):
    """Compares what mvm has counted with what counts.c has done."""

    def prepare(self):
        self.stats = os.path.join(self.tmp, "stats.json")
        return super().prepare() + ["--stats=" + self.stats, "--console=emulated", "--console=emulated:null"]

    def finish(self, run, report):
        with open(self.stats, encoding="utf-8") as f:
            stats = json.load(f)
        device = {d["name"]: d for d in stats["devices"]}
        blk, rng, other, serial = (device[n] for n in ("blk0", "rng0", "rng1", "console1"))

        def same(what, d, **wanted):
            got = {key: d[key] for key in wanted}
            report.check(got == wanted, what, ["wanted %s" % wanted, "got    %s" % got])

        same("ports: exits of a device that nobody else touches", serial, pio_writes=100,
             mmio_reads=0, interrupts=0)
        # KVM takes as many reads of a string instruction in one exit as it likes.
        report.check(serial["pio_reads"] + serial["repeats"] == 50 + 64 and serial["repeats"] > 0
                     and serial["exits"] == 100 + serial["pio_reads"],
                     "ports: a string instruction", ["%d reads, %d repeats, %d exits" % tuple(
                         serial[k] for k in ("pio_reads", "repeats", "exits"))])
        same("registers: MMIO exits likewise", other, mmio_reads=40, mmio_writes=12, pio_reads=0,
             exits=52, requests=0, kicks_ioeventfd=0)
        same("disk: requests, kicks, bytes", blk, requests=28, kicks_ioeventfd=21, kicks_exit=0,
             kicks_suppressed=7, bytes_out=20 * (16 + 512) + 8 * 16, bytes_in=20 + 8 * 513,
             bytes_copied=0, bytes_copied_kernel=28 * 512, errors=0, irqs_line=0)
        # The eight may complete in several turns of the data plane, with a message each.
        report.check(21 <= blk["irqs_ioctl"] <= 28 and blk["interrupts"] == blk["irqs_ioctl"],
                     "disk: a message for each turn", ["%d messages" % blk["irqs_ioctl"]])
        report.check(blk["latency"]["count"] == 28 == sum(n for _, n in blk["latency"]["buckets"])
                     and sum(blk["depth"].values()) == 28 and 0 < blk["latency"]["p50_ns"] < 10**10,
                     "disk: latency and depth of each request", [str(blk["latency"]), str(blk["depth"])])
        threads = [t["name"] for t in blk["threads"]]
        if any("iothread=off" in w for w in self.words):
            report.check("blk0" not in threads, "disk: no I/O thread of its own", threads)
        else:
            report.check("blk0" in threads and blk["cpu_ns"] > 0 and blk["syscalls"] >= 28 + 21,
                         "disk: its threads, their time and system calls",
                         ["%s, %d ns, %d" % (threads, blk["cpu_ns"], blk["syscalls"])])
        same("random numbers: suppressed interrupts", rng, requests=16, kicks_ioeventfd=16,
             kicks_suppressed=0, irqs_suppressed=16, interrupts=0, bytes_in=16 * 8)
        # A string instruction counts once for a device and all its accesses for the vCPU.
        exits = sum(d["exits"] + d["repeats"] for d in stats["devices"] + [stats["machine"]])
        vcpus = sum(v[k] for v in stats["vcpus"] for k in ("pio_reads", "pio_writes", "mmio_reads", "mmio_writes"))
        report.check(exits == vcpus, "every exit of every vCPU counts for somebody",
                     ["%d of %d" % (exits, vcpus)])
        report.check(stats["status"] == 0 and stats["why"] == "exit" and stats["process"]["cpu_ns"] > 0
                     and len(stats["vcpus"]) == (2 if "--cpus=2" in self.words else 1),
                     "and the machine as a whole", [str(stats["process"])])
        report.check(os.listdir(self.tmp) and not any(".tmp" in name for name in os.listdir(self.tmp)),
                     "no half-written file stays", os.listdir(self.tmp))


class Posted(Disk):
    """What posted.c writes to registers that KVM may hold back."""

    WRITES = 500 * 5 + 1000 + 1 + 1 + 1  # one of them, of two bytes, in part to another register: it exits

    def prepare(self):
        self.stats = os.path.join(self.tmp, "stats.json")
        return super().prepare() + ["--stats=" + self.stats]

    def finish(self, run, report):
        with open(self.stats, encoding="utf-8") as f:
            blk = next(d for d in json.load(f)["devices"] if d["name"] == "blk0")
        report.check(blk["posted_writes"] + blk["pio_writes"] == self.WRITES,
                     "every write is done once", ["%d + %d" % (blk["posted_writes"], blk["pio_writes"])])
        # But those that find the ring full.
        report.check(blk["posted_writes"] > self.WRITES * 0.9 and blk["pio_writes"] >= 1,
                     "nearly none is an exit", ["%d + %d" % (blk["posted_writes"], blk["pio_writes"])])
        report.check(blk["exits"] == blk["pio_reads"] + blk["pio_writes"],
                     "and those are not counted as exits", ["%d" % blk["exits"]])


HOSTS = {
    "acpi": Acpi,
    "blkcost": Pci,
    "counts": Counts,
    "pci": Pci,
    "posted": Posted,
    "devices": Devices,
    "hostile": Pci,
    "ide": Pci,
    "indirect": Pci,
    "misuse": Pci,
    "nvme": Pci,
    "registers": Pci,
    "reset": Pci,
    "rings": Pci,
    "rtc": Rtc,
    "uart": Uart,
    "virtio": Disk,
}
