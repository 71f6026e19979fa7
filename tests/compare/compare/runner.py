"""Running a VM for a configuration and a workload, and taking down what it cost."""

import glob
import hashlib
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from . import cpio, hostinfo, measure, workloads

MARK = "@compare "
NET = "192.168.79"  # of the tap; the guest is .2
CHECK_BYTES = 2 << 20  # known content that the guest reads
WRITE_AT = 2 << 20  # where it writes a MiB of its own
FIO_AT = 4 << 20  # what is behind is the work's
DISK_BYTES = 64 << 20
CHECKSUMS = {"blk": ("read", "wrote", "back"), "net": ("read", "wrote"), "console": ("wrote", "back")}  # what a guest says


def kvm_counters(pid, debugfs="/sys/kernel/debug/kvm"):
    """What KVM counts of a process's VM, all vCPUs together, as mvm says it of each vCPU; [] where debugfs is not to be read."""
    for directory in glob.glob(os.path.join(debugfs, "%d-*" % pid)):
        counters = {}
        for key in ("exits", "halt_exits"):
            try:
                with open(os.path.join(directory, key), encoding="ascii") as f:
                    counters[key] = int(f.read())
            except (OSError, ValueError):
                return []
        return [{"kvm": counters}]
    return []


class RunFailed(Exception):
    """This run has no result; the message says why."""


def known_bytes(count):
    return random.Random(79).randbytes(count)


def known_lines():
    return b"".join(b"%d\n" % (workloads.CONSOLE_FIRST + n) for n in range(workloads.CONSOLE_LINES))


class Server(threading.Thread):
    """What a guest reads from and writes to over the network, with checksums: nothing but TCP."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.content = known_bytes(CHECK_BYTES)
        self.received = None
        self.sockets = [socket.create_server((address, 0)) for _ in range(2)]
        self.data_port, self.sink_port = (s.getsockname()[1] for s in self.sockets)

    def run(self):
        try:
            while True:
                for s in select.select(self.sockets, [], [])[0]:
                    connection, _ = s.accept()
                    connection.settimeout(60)
                    with connection:
                        self.serve(s is self.sockets[0], connection)
        except (OSError, ValueError):
            return  # closed

    def serve(self, give, connection):
        try:
            if give:
                connection.sendall(self.content)
                connection.shutdown(socket.SHUT_WR)
                return
            digest = hashlib.sha256()
            while part := connection.recv(65536):
                digest.update(part)
            self.received = digest.hexdigest()
        except OSError:
            pass  # the guest has gone; its checksum will tell

    def close(self):
        for s in self.sockets:
            s.close()


class Echo(threading.Thread):
    """On the other end of a guest's serial port, a unix socket of the VMM's: gives back what comes."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.closed = path, False
        self.begin = b""  # of what came

    def run(self):
        with socket.socket(socket.AF_UNIX) as s:
            while not self.closed:
                try:
                    s.connect(self.path)
                    break
                except OSError:
                    time.sleep(0.05)  # the VMM is still starting
            try:
                while part := s.recv(65536):
                    self.begin += part[:len(known_lines()) - len(self.begin)]
                    s.sendall(part)
            except OSError:
                pass  # the VMM has gone

    def digest(self):
        return hashlib.sha256(self.begin).hexdigest()

    def close(self):
        self.closed = True


class Host:
    """What this machine lends to all runs: directories, a tap, an iperf3 server."""

    def __init__(self, args):
        self.mvm, self.timeout, self.quiet = args.mvm, args.timeout, args.quiet
        self.pin = args.pin
        self.images = args.images or os.environ.get("MVM_IMAGES") or self.find_images()
        self.tap_made = False

    def find_images(self):
        for path in (os.path.join(os.path.dirname(self.mvm), "images"),
                     os.path.join(os.path.dirname(self.mvm), "..", "share", "mvm", "images")):
            if os.path.exists(os.path.join(path, "initramfs.cpio.gz")):
                return os.path.realpath(path)
        raise SystemExit("mvm-compare: no default guest; name its directory with --images=DIR")

    def progress(self, text, end="\n"):
        if not self.quiet:
            print(text, file=sys.stderr, end=end, flush=True)

    def make_tap(self):
        """mvmcmp0 with an address, or what is wrong."""
        if self.tap_made:
            return "mvmcmp0"
        for command in ("ip tuntap add dev mvmcmp0 mode tap", "ip addr replace %s.1/24 dev mvmcmp0" % NET,
                        "ip link set mvmcmp0 up"):
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode and "exists" not in done.stderr and "busy" not in done.stderr:
                raise RunFailed("no tap: %s: %s" % (command, done.stderr.strip()))
        self.tap_made = True
        return "mvmcmp0"

    def close(self):
        if self.tap_made:
            subprocess.run("ip link del mvmcmp0".split(), capture_output=True, check=False)


class Run:
    """One VM, and the work that it does, one workload after the other."""

    def __init__(self, host, plan, todo, model, tmp):
        self.host, self.plan, self.workloads, self.model, self.tmp = host, plan, todo, model, tmp
        self.values = {}
        self.lines = []
        self.log = b""
        self.process = self.iperf = self.server = self.echo = None
        self.stats_path = os.path.join(tmp, "stats")
        self.end = time.monotonic() + host.timeout * len(todo)

    # ---- what it needs -------------------------------------------------------------------------

    def make_disk(self):
        path = os.path.join(self.tmp, "disk.img")
        with open(path, "wb") as f:
            f.write(known_bytes(CHECK_BYTES))
            f.truncate(DISK_BYTES)
        return path

    def shell(self, command):
        """VAR=value lines of what it says become {var}."""
        env = dict(os.environ, **{k.upper(): str(v) for k, v in self.values.items()})
        done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=False, env=env,
                              stdin=subprocess.DEVNULL, timeout=120)
        if done.returncode:
            raise RunFailed("prepare: %s" % (done.stderr.strip() or done.stdout.strip() or done.returncode))
        for line in done.stdout.splitlines():
            key, equals, value = line.partition("=")
            if equals and re.fullmatch(r"[A-Z_]+", key):
                self.values[key.lower()] = value

    def prepare(self):
        wanted = " ".join(self.model.words() + self.plan.flags)
        self.values = {
            "seconds": self.plan.seconds, "check_bytes": CHECK_BYTES, "write_block": WRITE_AT // 65536,
            "fio_offset": FIO_AT, "fio_size": DISK_BYTES - FIO_AT, "tmp": self.tmp,
            "host_ip": "10.0.2.2", "guest_ip": "", "iperf_port": 5201, "mvm": self.host.mvm,
        }
        if "{disk}" in wanted or "$DISK" in (self.model.prepare or ""):
            self.values["disk"] = self.make_disk()
        if "{tap}" in wanted:
            self.values.update(tap=self.host.make_tap(), host_ip=NET + ".1", guest_ip=NET + ".2/24")
        if "{echo}" in wanted:
            self.values["echo"] = os.path.join(self.tmp, "echo")
            self.echo = Echo(self.values["echo"])
            self.echo.start()
        if self.model.prepare:
            self.shell(self.model.prepare)
        if any(w.cls == "net" for w in self.workloads):
            address = "127.0.0.1" if self.values["host_ip"] == "10.0.2.2" else self.values["host_ip"]
            self.server = Server(address)
            self.server.start()
            self.values.update(data_port=self.server.data_port, sink_port=self.server.sink_port)
            with socket.create_server((address, 0)) as s:
                self.values["iperf_port"] = s.getsockname()[1]
            self.iperf = subprocess.Popen(["iperf3", "-s", "-B", address, "-p", str(self.values["iperf_port"])],
                                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL)

    def fill(self, text):
        for key, value in self.values.items():
            text = text.replace("{%s}" % key, str(value))
        return text

    def command(self):
        initrd = os.path.join(self.tmp, "initrd")
        cpio.append(os.path.join(self.host.images, "initramfs.cpio.gz"),
                    {"compare": workloads.script(self.workloads, self.values).encode()}, initrd)
        kernel = next((p for p in (os.path.join(self.host.images, n) for n in ("vmlinux", "bzImage"))
                       if os.path.exists(p)), os.path.join(self.host.images, "vmlinux"))
        ip = self.values["guest_ip"]
        append = 'quiet mvm.quiet %s mvm.run="sh /compare"' % ("mvm.ip=" + ip if ip else "")
        if self.model.command:
            self.values.update(kernel=kernel, initrd=initrd, append=append, memory=self.memory())
            words = [self.fill(w) for w in self.model.command]
        else:
            words = [self.host.mvm, "--kernel=" + kernel, "--initrd=" + initrd, "--stats=" + self.stats_path, "--no-reboot"]
            words += [self.fill(f) for f in self.plan.flags + self.model.flags] + ["--append=" + append]
        return (["taskset", "-c", self.host.pin] if self.host.pin else []) + words

    def memory(self):
        """What --memory says, as another VMM takes it."""
        return next((f.partition("=")[2].partition(",")[0] for f in self.plan.flags if f.startswith("--memory=")), "512M")

    # ---- talking to the guest ------------------------------------------------------------------

    def read_line(self):
        """The next line that the guest says to us."""
        while True:
            while b"\n" in self.log:
                raw, _, self.log = self.log.partition(b"\n")
                line = raw.decode(errors="replace").rstrip("\r")
                self.lines.append(line)
                if MARK in line:
                    return line.partition(MARK)[2]
            left = self.end - time.monotonic()
            if left <= 0:
                raise RunFailed("it took longer than %d s" % (self.host.timeout * len(self.workloads)))
            if not select.select([self.process.stdout], [], [], min(left, 1))[0]:
                continue
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                raise RunFailed("mvm ended: %s" % " | ".join(self.lines[-4:]))
            self.log += part

    def peer_stats(self):
        """Of another VMM the kernel knows the CPU time, and KVM the exits; what it counted itself stays unknown."""
        with open("/proc/%d/stat" % self.process.pid, encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
        return {"wall_ns": time.monotonic_ns(), "process": {"cpu_ns": ticks * 1000000000 // os.sysconf("SC_CLK_TCK")},
                "devices": None, "vcpus": kvm_counters(self.process.pid)}

    def stats(self):
        """What mvm has counted up to now."""
        if self.model.command:
            return self.peer_stats()
        try:
            os.unlink(self.stats_path)
        except FileNotFoundError:
            pass
        self.process.send_signal(signal.SIGUSR1)
        while not os.path.exists(self.stats_path):
            if self.process.poll() is not None or time.monotonic() > self.end:
                raise RunFailed("mvm gave no statistics")
            time.sleep(0.005)
        with open(self.stats_path, encoding="utf-8") as f:
            return json.load(f)

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def converse(self):
        """What is said of one workload: (before, after, lines by their first word). The guest then waits."""
        said, snapshots = {}, {}
        while True:
            word, _, rest = self.read_line().partition(" ")
            if word in ("before", "after"):
                snapshots[word] = self.stats()
                self.go()
            elif word == "done":
                break
            elif word == "failed":
                raise RunFailed("in the guest: " + rest)
            else:
                said.setdefault(word, []).append(rest)
        if len(snapshots) != 2:
            raise RunFailed("the guest left out a turn")
        return snapshots["before"], snapshots["after"], said

    # ---- the data ------------------------------------------------------------------------------

    def check_data(self, workload, said):
        """Checksums of both sides; False: this workload has none. Where it has some, none may be missing, or be of no data."""
        if not workload.check:
            return False
        sums = {what: value for what, _, value in (line.partition(" ") for line in said.get("checksum", []))}
        for what in CHECKSUMS[workload.cls]:
            if sums.get(what, "") in ("", hashlib.sha256(b"").hexdigest()):
                raise RunFailed("the guest has no data to compare: %s" % what)
        if sums.get("back", sums["wrote"]) != sums["wrote"]:
            raise RunFailed("the guest reads something else than it wrote")
        if workload.cls == "console":
            if sums["wrote"] != hashlib.sha256(known_lines()).hexdigest():
                raise RunFailed("the guest wrote something else than was asked of it")
            if self.echo and self.echo.digest() != sums["wrote"]:
                raise RunFailed("the host received something else than the guest wrote")
            return True
        known = hashlib.sha256(known_bytes(CHECK_BYTES)).hexdigest()
        # A disk that is not ours to fill (passed through) has what it has, the same before and after.
        ours = "disk" in self.values or self.server
        if ours and sums["read"] != known:
            raise RunFailed("the guest read something else than the host wrote: %s" % sums["read"])
        if self.server and self.server.received != sums["wrote"]:
            raise RunFailed("the host received something else than the guest sent")
        if "disk" in self.values and workload.cls == "blk":
            got = hashlib.sha256(self.disk_bytes(WRITE_AT, 1 << 20)).hexdigest()
            if got != sums["wrote"]:
                raise RunFailed("the host reads something else from the disk than the guest wrote")
        return True

    def disk_bytes(self, offset, count):
        with open(self.values["disk"], "rb") as f:
            f.seek(offset)
            return f.read(count)

    # ---- all of it -----------------------------------------------------------------------------

    def start(self):
        self.prepare()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)

    def execute(self, workload):
        """(metrics, was data checked?) of the next workload."""
        before, after, said = self.converse()
        kind, parse = workload.parse
        try:
            lines = said.get(kind, [])
            guest = parse([line for line in lines if not line.startswith("disk ")])
        except (ValueError, IndexError) as e:
            raise RunFailed(str(e)) from e
        checked = self.check_data(workload, said)
        self.go()
        return measure.measure(before, after, device_of(self.model.cls), guest), checked

    def wait(self):
        try:
            status = self.process.wait(max(1, self.end - time.monotonic()))
        except subprocess.TimeoutExpired as e:
            raise RunFailed("the guest did not power off") from e
        if status:
            raise RunFailed("mvm ended with status %d" % status)

    def close(self):
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        if self.iperf:
            self.iperf.kill()
            self.iperf.wait()
        if self.server:
            self.server.close()
        if self.echo:
            self.echo.close()
        if self.model.restore:
            try:
                self.shell(self.model.restore)
            except (RunFailed, subprocess.TimeoutExpired) as e:
                self.host.progress("  restoring %s: %s" % (self.model.name, e))


def device_of(cls):
    """The device that the work is about; the first console is the one that is talked on."""
    return cls + ("1" if cls == "console" else "0")


def facts(host, plan):
    """Once for each configuration: everything that mvm chose, defaults too."""
    chosen = {}
    for model in plan.models:
        if model.command:
            chosen[model.name] = shlex.join(model.command)
            continue
        flags = [re.sub(r"\{\w+\}", "x", f) for f in plan.flags + model.flags]
        chosen[model.name] = hostinfo.said(host.mvm, "--kernel=vmlinux", "--print-config", *flags)
    return hostinfo.collect(host.mvm, {"configurations": chosen, "pin": host.pin})


def scratch():
    """On tmpfs where there is one: the disk's own speed is not what is compared."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_one(host, plan, number, todo, model):
    """A record for each workload. If one fails, so have those after it, and if the VM's end does, all."""
    records = [{"round": number, "workload": w.name, "model": model.name, "good": False, "begin": time.time()}
               for w in todo]
    why = None
    with tempfile.TemporaryDirectory(prefix="mvm-compare-", dir=scratch()) as tmp:
        run = Run(host, plan, todo, model, tmp)
        try:
            run.start()
            for record, workload in zip(records, todo):
                record["begin"] = time.time()
                record["metrics"], record["checked"] = run.execute(workload)
                record["command"] = shlex.join(run.process.args)
                record["good"] = True
                record["seconds"] = round(time.time() - record["begin"], 1)
        except (RunFailed, OSError, subprocess.TimeoutExpired) as e:
            why = str(e)
        try:
            if not why:
                run.wait()
        except RunFailed as e:
            why = str(e)
            for record in records:
                record["good"] = False
        finally:
            run.close()
    for record in records:
        if not record["good"]:
            record.update(why=why, console=run.lines[-30:])
        record.setdefault("seconds", round(time.time() - record["begin"], 1))
    return records


def run_all(plan, store, host):
    """Everything that is not there yet; how many runs failed."""
    visits = [(number, [w for w in todo if not store.has(number, w, model)], model)
              for number, todo, model in plan.visits()]
    total = len(visits)
    visits = [v for v in visits if v[1]]
    place = os.path.join(store.path, "host.json")
    with open(place, "w", encoding="utf-8") as f:
        json.dump(facts(host, plan), f, indent=1)
    host.progress("%d VMs of %d are to be run" % (len(visits), total))
    failed, took = 0, []
    try:
        for i, (number, todo, model) in enumerate(visits):
            left = sum(took) / len(took) * (len(visits) - i) if took else 0
            host.progress("[%d/%d%s] %s %s: " % (
                total - len(visits) + i + 1, total, ", about %d min left" % (left / 60 + 1) if left else "",
                "warm-up" if number < 0 else "round %d" % (number + 1), model.name), end="")
            begin = time.monotonic()
            for record in run_one(host, plan, number, todo, model):
                store.add(record)
                failed += not record["good"]
                host.progress("%s, " % record["workload"] if record["good"] else
                              "%s FAILED: %s; " % (record["workload"], record["why"]), end="")
            took.append(time.monotonic() - begin)
            host.progress("%.1f s" % took[-1])
    finally:
        host.close()
    return failed
