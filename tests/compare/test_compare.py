#!/usr/bin/python3
"""Tests of mvm-compare that need no VM: its statistics against hand-made data, what guests say, what is kept and
resumed, and that the report's figures are the results'. TAP on standard output; `python3 -m unittest` works too."""

import csv
import html
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib
from html.parser import HTMLParser
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from compare import cpio, export, measure, models, report, results, runner, statistic, svg, workloads  # noqa: E402

TOOL = os.path.join(HERE, "mvm-compare")
FAKE = os.path.join(HERE, "fake-mvm")

CHROMIUM = shutil.which("chromium")
# Runs in the page: what is there, and how large.
LOOK = """addEventListener("load", () => {
    const look = { charts: [], links: [], overflow: document.documentElement.scrollWidth - innerWidth,
                   color: getComputedStyle(document.body).color,
                   background: getComputedStyle(document.body).backgroundColor };
    for (const svg of document.querySelectorAll("svg")) {
        const box = svg.getBoundingClientRect();
        look.charts.push({ width: box.width, height: box.height, marks: svg.querySelectorAll("rect, path, polygon").length });
    }
    for (const a of document.querySelectorAll("a"))
        look.links.push([a.getAttribute("href"), document.querySelector(a.getAttribute("href")) !== null]);
    look.wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth &&
        !e.closest(".scroll, svg *")).map(e => e.tagName + "." + e.className).slice(0, 9);
    const pre = document.createElement("pre");
    pre.id = "looked";
    pre.textContent = JSON.stringify(look);
    document.body.append(pre);
});"""


def colours(path):
    """How many different bytes the rows of a PNG are made of: a page that stayed blank has next to none."""
    with open(path, "rb") as f:
        data = f.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += size + 12
    return len(set(zlib.decompress(packed)))


class Statistics(unittest.TestCase):
    def test_summary(self):
        s = statistic.summary([3, 1, 2])
        self.assertEqual((s["median"], s["min"], s["max"], s["q1"], s["q3"], s["n"]), (2, 1, 3, 1, 3, 3))
        self.assertAlmostEqual(s["spread"], 0.5)
        s = statistic.summary([10, 20, 30, 40, 50])
        self.assertEqual((s["median"], s["q1"], s["q3"]), (30, 15, 45))
        s = statistic.summary([8, 6, 4, 2])
        self.assertEqual((s["median"], s["q1"], s["q3"]), (5, 3, 7))
        self.assertEqual(statistic.summary([0, 0])["spread"], 0)
        self.assertEqual(statistic.summary([5])["median"], 5)
        self.assertIsNone(statistic.summary([]))
        self.assertEqual(statistic.summary([None, 4])["n"], 1)

    def test_ratios_are_made_within_a_round(self):
        # A machine that is three times as slow in round 1 changes no ratio.
        ours, base = {0: 20, 1: 60, 2: 22}, {0: 10, 1: 30, 2: 11}
        r = statistic.ratio(ours, base)
        self.assertEqual((r["median"], r["min"], r["max"], r["sure"]), (2, 2, 2, True))
        self.assertFalse(statistic.ratio({0: 9, 1: 11}, {0: 10, 1: 10})["sure"])
        self.assertTrue(statistic.ratio({0: 8, 1: 9}, {0: 10, 1: 10})["sure"])
        # Rounds that one of them lacks do not count, nor those where the base is nothing.
        self.assertEqual(statistic.ratios({0: 1, 1: 4, 3: 9}, {1: 2, 2: 5, 3: 0}), [2])
        self.assertIsNone(statistic.ratio({0: 1}, {1: 1}))

    def test_human(self):
        for value, unit, wanted in ((0, "", "0"), (1234567, "B/s", "1.23 MB/s"), (12345, "/s", "12.3 k/s"), (0.5, "", "0.50"),
                                    (999.9, "B", "1.00 kB"), (1234, "µs", "1 234 µs"), (0.001, "", "0.001"), (None, "", "–")):
            self.assertEqual(export.human(value, unit), wanted)


class Guests(unittest.TestCase):
    def test_fio(self):
        line = ";".join(["3", "fio-3.33", "w", "0", "0", "4000", "2000", "500", "2000"] + ["0"] * 8
                        + ["1.000000%=1", "50.000000%=100", "99.000000%=900"] + ["0%=0"] * 17 + ["0"] * 9
                        + ["8000", "4000", "1000", "2000"] + ["0"] * 8 + ["50.000000%=50", "99.000000%=2000"] + ["0%=0"] * 18
                        + ["0"] * 50)
        r = workloads.parse_fio(["noise", line])
        self.assertEqual(r["operations"], 500 * 2 + 1000 * 2)
        self.assertEqual((r["iops"], r["throughput"], r["p50_us"], r["p99_us"]), (1500, 6000 * 1024, 100, 2000))
        with self.assertRaises(ValueError):
            workloads.parse_fio(["fio: no such file"])
        with self.assertRaises(ValueError):
            workloads.parse_fio([line.replace(";0;0;4000", ";0;5;4000", 1)])

    def test_iperf(self):
        text = ["[  5]   0.00-5.00   sec   640 MBytes  1073742 Kbits/sec    0             sender",
                "[  5]   0.00-5.04   sec   500 MBytes  832000 Kbits/sec                  receiver"]
        r = workloads.parse_iperf(text)
        self.assertEqual((r["throughput"], r["operations"]), (104e6, 8000))
        with self.assertRaises(ValueError):
            workloads.parse_iperf(["iperf3: error - unable to connect"])

    def test_datagrams(self):
        text = ["[  5]   0.00-2.00   sec   640 KBytes  2621 Kbits/sec  0.000 ms  0/10240 (0%)  sender",
                "[  5]   0.00-2.50   sec   500 KBytes  1638 Kbits/sec  0.085 ms  2240/10240 (22%)  receiver"]
        r = workloads.parse_datagrams(text)
        self.assertEqual((r["packets"], r["operations"]), (3200, 8000))
        m = measure.measure({"wall_ns": 0, "process": {"cpu_ns": 0}, "devices": None, "vcpus": []},
                            {"wall_ns": 1e9, "process": {"cpu_ns": 8e6}, "devices": None, "vcpus": []}, "net0", r)
        self.assertEqual((m["packets"], m["cpu_us_per_op"], "iops" in m), (3200, 1, False))
        with self.assertRaises(ValueError):
            workloads.parse_datagrams(["iperf3: error - unable to connect"])

    def test_percentiles_in_the_guest(self):
        awk = re.search(r"percentiles\(\) \{.*?\n.*?\n.*?; \}", workloads.COMMON, re.S).group(0)
        for values, p50, p99 in ((range(1, 101), 50, 99), ([7], 7, 7), ([1, 2, 3, 1000], 2, 1000)):
            script = awk + "\nprintf '%%s\\n' %s | percentiles" % " ".join(map(str, values))
            out = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
            r = workloads.parse_results([line.replace("@compare result ", "") for line in out.splitlines()])
            self.assertEqual((r["p50_us"], r["p99_us"], r["operations"]), (p50, p99, len(list(values))))

    def test_the_disk_is_one(self):
        """Of a multipath NVMe namespace, its path has a name under /sys/block and no node."""
        with tempfile.TemporaryDirectory() as tmp:
            for name in ("nvme0c0n1", "nvme0n1"):
                os.makedirs("%s/sys/%s" % (tmp, name))
                with open("%s/sys/%s/size" % (tmp, name), "w", encoding="ascii") as f:
                    f.write("4096")
            os.mkdir(tmp + "/dev")
            try:
                os.mknod(tmp + "/dev/nvme0n1", 0o60600, os.makedev(7, 0))
            except PermissionError:
                self.skipTest("needs root for a device node")
            script = workloads.COMMON.replace("/sys/block", tmp + "/sys").replace("/dev/", tmp + "/dev/") + "disk"
            said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
            self.assertEqual(said.strip(), tmp + "/dev/nvme0n1")

    def test_every_script_is_shell(self):
        values = dict.fromkeys(("host_ip", "data_port", "sink_port", "iperf_port", "seconds", "check_bytes", "write_block",
                                "fio_offset", "fio_size"), 1)
        for w in list(workloads.PROFILES.values()) + [workloads.command("echo 'it''s'; true")]:
            text = w.script(values)
            self.assertNotRegex(text, r"\{[a-z_]+\}")
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)

    def test_cpio(self):
        with tempfile.TemporaryDirectory() as tmp:
            archive = cpio.archive({"compare": b"#!/bin/sh\n", "b": b"xyz"})
            self.assertEqual(len(archive) % 4, 0)
            if shutil.which("cpio"):
                subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp, check=True)
                with open(os.path.join(tmp, "compare"), "rb") as f:
                    self.assertEqual(f.read(), b"#!/bin/sh\n")
                self.assertTrue(os.access(os.path.join(tmp, "compare"), os.X_OK))
            with open(os.path.join(tmp, "in"), "wb") as f:
                f.write(b"12345")
            cpio.append(os.path.join(tmp, "in"), {"a": b"1"}, os.path.join(tmp, "out"))
            with open(os.path.join(tmp, "out"), "rb") as f:
                self.assertTrue(f.read().startswith(b"12345" + bytes(3) + b"070701"))


class Measures(unittest.TestCase):
    @staticmethod
    def stats(n, cpu, **blk):
        device = dict({"name": "blk0", "exits": 0, "latency": {"count": n, "mean_ns": 4000}, "threads": []}, **blk)
        return {"wall_ns": n * 1000, "process": {"cpu_ns": cpu}, "devices": [device],
                "vcpus": [{"kvm": {"exits": 3 * n, "halt_exits": n}}, {"kvm": {"exits": n}}]}

    def test_per_operation(self):
        before = self.stats(100, 5000, exits=10, interrupts=1, bytes_copied=5, bytes_copied_kernel=0, syscalls=7)
        after = self.stats(300, 405000, exits=50, interrupts=101, bytes_copied=105, bytes_copied_kernel=4000, syscalls=407,
                           threads=[{"name": "x", "pid": 9, "cpu_ns": 200000}, {"name": "y", "tid": 3, "cpu_ns": 99}])
        m = measure.measure(before, after, "blk0", {"operations": 200, "iops": 10})
        self.assertEqual(m["exits_per_op"], 0.2)
        self.assertEqual(m["interrupts_per_op"], 0.5)
        self.assertEqual(m["copied_per_op"], 20.5)
        self.assertEqual(m["syscalls_per_op"], 2)
        self.assertEqual(m["kvm_exits_per_op"], 4)
        self.assertEqual(m["halts_per_op"], 1)
        self.assertAlmostEqual(m["cpu_us_per_op"], (400000 + 200000) / 200 / 1000)
        self.assertEqual(m["service_us"], 4)

    def test_another_vmm(self):
        before, after = ({"wall_ns": n * 10**9, "process": {"cpu_ns": n * 10**6}, "devices": None, "vcpus": []} for n in (1, 3))
        m = measure.measure(before, after, "net0", {"operations": 100, "p50_us": 7})
        self.assertEqual((m["iops"], m["cpu_us_per_op"]), (50, 20))
        self.assertNotIn("exits_per_op", m)
        self.assertNotIn("kvm_exits_per_op", m)
        for stats, exits in (before, 7), (after, 207):
            stats["vcpus"] = [{"kvm": {"exits": exits, "halt_exits": 0}}]
        m = measure.measure(before, after, "net0", {"operations": 100, "p50_us": 7})
        self.assertEqual((m["kvm_exits_per_op"], m["halts_per_op"]), (2, 0))
        self.assertNotIn("exits_per_op", m)

    def test_what_kvm_counts_of_another_vmm(self):
        with tempfile.TemporaryDirectory() as tmp:
            self.assertEqual(runner.kvm_counters(12, tmp), [])
            os.mkdir(os.path.join(tmp, "12-9"))
            self.assertEqual(runner.kvm_counters(12, tmp), [], "a kernel that counts other things")
            for key, n in ("exits", 3), ("halt_exits", 1):
                with open(os.path.join(tmp, "12-9", key), "w", encoding="ascii") as f:
                    f.write("%d\n" % n)
            self.assertEqual(runner.kvm_counters(12, tmp), [{"kvm": {"exits": 3, "halt_exits": 1}}])
            self.assertEqual(runner.kvm_counters(1, tmp), [])

    def test_a_device_without_counters(self):
        before, after = self.stats(1, 1), self.stats(2, 2)
        m = measure.measure(before, after, "blk7", {"operations": 1})
        self.assertEqual((m["exits_per_op"], m["copied_per_op"]), (0, 0))
        self.assertNotIn("service_us", m)


class Configurations(unittest.TestCase):
    def test_the_file_is_whole(self):
        names = set()
        for m in models.load(os.path.join(HERE, "models.json")):
            self.assertNotIn(m.name, names)
            names.add(m.name)
            self.assertIn(m.cls, ("blk", "console", "net"))
            self.assertEqual(bool(m.command), not m.flags)
            self.assertIn(m.step, [None] if m.command else [s[0] for s in models.STEPS])
            for need in m.needs:
                self.assertIn(need.partition(":")[0], ("file", "shell", "probe"))
            for shell in filter(None, (m.prepare, m.restore)):
                subprocess.run(["sh", "-n"], input=shell, text=True, check=True)

    def test_what_a_binary_lacks(self):
        m = models.Model.from_flags("x", "--blk=emulated:{disk},hw=ide")
        self.assertEqual((m.cls, m.step), ("blk", "emulated"))
        self.assertIn("hw" if False else "ide", models.lacking(m, {("blk", "emulated", "nvme")}, FAKE))
        self.assertIsNone(models.lacking(m, {("blk", "emulated", "ide")}, FAKE))
        m = models.Model("chips", "blk", ["--blk=virtio:{disk}", "--irqchip=user"])
        self.assertIsNone(models.lacking(m, {("blk", "virtio", "virtio-blk")}, FAKE))
        m = models.Model("y", "blk", ["--blk=virtio:{disk}"], needs=["file:/nonexistent"])
        self.assertIn("/nonexistent", models.lacking(m, {("blk", "virtio", "virtio-blk")}, FAKE))


class Tool(unittest.TestCase):
    """The whole tool, with a program in mvm's place."""

    CONFIGS = ["old=--blk=emulated:{disk}", "new=--blk=virtio:{disk}"]

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="mvm-compare-test-")
        self.log = os.path.join(self.tmp, "log")
        self.out = os.path.join(self.tmp, "out")
        self.images = os.path.join(self.tmp, "images")
        os.mkdir(self.images)
        with open(os.path.join(self.images, "initramfs.cpio.gz"), "wb") as f:
            f.write(b"initramfs")

    def tearDown(self):
        shutil.rmtree(self.tmp)

    def start(self, *more, env=None, **popen):
        command = [TOOL, "--mvm", FAKE, "--images", self.images, "--out", self.out, "--rounds=3", "--warmup=1",
                   "--workload=randread-1", "--timeout=120"] + list(more) + self.CONFIGS
        return subprocess.Popen(command, env=dict(os.environ, FAKE_LOG=self.log, **(env or {})), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def run_tool(self, *more, env=None):
        process = self.start(*more, env=env)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def starts(self):
        with open(self.log, encoding="utf-8") as f:
            return ["old" if line.startswith("emulated") else "new" for line in f]

    def test_a_whole_comparison(self):
        path = os.path.join(self.tmp, "r")
        status, out, err = self.run_tool("--json=%s.json" % path, "--csv=%s.csv" % path, "--report=%s.html" % path)
        self.assertEqual(status, 0, err)
        self.assertEqual(self.starts(), ["old", "new"] * 4, "they take turns")
        with open(path + ".json", encoding="utf-8") as f:
            data = json.load(f)
        self.assertEqual(data["host"]["mvm"], "mvm fake")
        entry = data["analysis"][0]
        self.assertEqual(entry["baseline"], "old")
        new, old = entry["models"]["new"], entry["models"]["old"]
        self.assertEqual((new["rounds"], new["checked"], new["failed"]), (3, True, []))
        self.assertEqual(old["metrics"]["exits_per_op"]["median"], 20)
        self.assertEqual(new["metrics"]["exits_per_op"]["ratio"]["median"], 0)
        self.assertEqual(new["metrics"]["iops"]["median"], 500)
        self.assertEqual(new["metrics"]["cpu_us_per_op"]["median"], 21)
        self.assertEqual(new["steps"]["kicks_ioeventfd"], 0.5)
        self.assertIn("exits to user space per operation", out)
        with open(path + ".csv", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual(len(rows), 8)
        self.assertEqual([float(r["exits_per_op"]) for r in rows if r["model"] == "old"], [20] * 4)
        with open(path + ".html", encoding="utf-8") as f:
            self.check_page(f.read(), data)
        # From what is there, with another baseline, without running anything.
        status, out, err = self.run_tool("--from=" + self.out, "--baseline=new", "--json=-",
                                         "--markdown=%s.md" % path, "--chart=%s.svg" % path)
        with open(path + ".md", encoding="utf-8") as f:
            table = f.read()
        self.assertRegex(table, r"\| new \| 1 \| 500 /s \|")
        self.assertRegex(table, r"\| old \| 1\.00\?? \| 500 /s \|.* 20\.0 \|")
        with open(path + ".svg", encoding="utf-8") as f:
            self.assertEqual(ElementTree.fromstring(f.read()).tag, "{http://www.w3.org/2000/svg}svg")
        self.assertEqual(json.loads(out)["analysis"][0]["baseline"], "new")
        self.assertEqual(len(self.starts()), 8)

    @unittest.skipUnless(CHROMIUM, "there is no Chromium")
    def test_the_report_in_a_browser(self):
        report_path = os.path.join(self.tmp, "r.html")
        self.assertEqual(self.run_tool("--report=" + report_path)[0], 0)
        with open(report_path, encoding="utf-8") as f:
            text = f.read()
        looks = {}
        for width, dark in ((1400, False), (420, False), (1400, True)):
            seen = self.browse(text, width, dark)
            what = "%d wide%s" % (width, ", dark" if dark else "")
            self.assertGreaterEqual(len(seen["charts"]), 8, what)
            for chart in seen["charts"]:
                self.assertTrue(chart["width"] > 100 and chart["height"] > 30 and chart["marks"] > 0, (what, chart))
            self.assertLessEqual(seen["overflow"], 0, "%s: wider than the window: %s" % (what, seen["wide"]))
            self.assertGreater(len(seen["links"]), 4)
            self.assertEqual([link for link, there in seen["links"] if not there], [], what)
            self.assertNotEqual(seen["color"], seen["background"], what)
            looks[width, dark] = seen["background"]
        self.assertNotEqual(looks[1400, False], looks[1400, True], "light and dark differ")

    def browse(self, text, width, dark):
        """What Chromium makes of a page: it is looked at by a script in a copy, and on a screenshot."""
        page, picture = os.path.join(self.tmp, "page.html"), os.path.join(self.tmp, "page.png")
        with open(page, "w", encoding="utf-8") as f:
            f.write(text.replace("</body>", "<script>%s</script></body>" % LOOK))
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=%d,2000" % width,
                   "--user-data-dir=" + os.path.join(self.tmp, "profile"),
                   "--blink-settings=preferredColorScheme=%d" % (0 if dark else 1)]
        done = subprocess.run(command + ["--dump-dom", "file://" + page], capture_output=True, text=True, timeout=100, check=True)
        found = re.search(r'<pre id="looked">(.*?)</pre>', done.stdout, re.S)
        self.assertTrue(found, done.stdout[-300:] + done.stderr[-300:])
        subprocess.run(command + ["--screenshot=" + picture, "file://" + page], capture_output=True, timeout=100, check=True)
        self.assertGreater(colours(picture), 20, "the screenshot shows something")
        return json.loads(html.unescape(found.group(1)))

    def check_page(self, text, data, least=20):
        """Its figures are the results', it is well-formed and it asks nobody for anything."""
        page = Page()
        page.feed(text)
        page.close()
        self.assertEqual(page.problems, [])
        self.assertGreater(len(page.figures), least)
        for key, (value, shown) in page.figures.items():
            workload, model, metric = key.split("/")
            entry = next(e for e in data["analysis"] if e["workload"] == workload)
            wanted = entry["models"][model]["metrics"][metric]["median"]
            self.assertEqual(float(value), wanted)
            unit = next(m[2] for m in measure.METRICS if m[0] == metric)
            self.assertEqual(shown, export.human(wanted, unit))
        self.assertEqual(json.loads(page.data), data)
        self.assertEqual(page.links - page.ids, set(), "links lead somewhere")
        self.assertNotRegex(text.replace("http://www.w3.org/2000/svg", ""), r"https?://|@import|url\((?!#)")
        self.assertGreaterEqual(text.count("<svg"), 8 if least == 20 else 4)

    def test_a_killed_run_goes_on(self):
        process = self.start(env={"FAKE_SLEEP": "0.2"}, start_new_session=True)
        end = time.monotonic() + 60
        while (not os.path.exists(self.log) or len(self.starts()) < 4) and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        runs = os.path.join(self.out, "runs.jsonl")
        with open(runs, "a", encoding="utf-8") as f:
            f.write('{"round": 1, "workload": "ran')  # as if killed while writing
        kept = len(results.read_runs(runs))
        self.assertTrue(1 <= kept <= 4, kept)
        before = len(self.starts())
        status, out, err = self.run_tool("--json=%s/r.json" % self.tmp)
        self.assertEqual(status, 0, err)
        self.assertEqual(len(self.starts()) - before, 8 - kept, "only what was missing")
        with open(os.path.join(self.tmp, "r.json"), encoding="utf-8") as f:
            entry = json.load(f)["analysis"][0]
        self.assertEqual([e["rounds"] for e in entry["models"].values()], [3, 3])
        status, out, err = self.run_tool()
        self.assertEqual(len(self.starts()) - before, 8 - kept, "nothing is left to do")
        status, out, err = self.run_tool("--rounds=4")
        self.assertEqual(len(self.starts()) - before, 10 - kept, "more rounds are added")

    def test_a_vm_does_all_workloads_of_a_round(self):
        more = "--workload=randwrite-32", "--rounds=2", "--json=%s/r.json" % self.tmp
        status, _, err = self.run_tool(*more)
        self.assertEqual(status, 0, err)
        self.assertEqual(self.starts(), ["old", "new"] * 3)
        with open(os.path.join(self.tmp, "r.json"), encoding="utf-8") as f:
            data = json.load(f)
        self.assertEqual([e["workload"] for e in data["analysis"]], ["randread-1", "randwrite-32"])
        for entry in data["analysis"]:
            self.assertEqual([(m["rounds"], m["checked"]) for m in entry["models"].values()], [(2, True)] * 2)
            self.assertEqual(entry["models"]["old"]["metrics"]["exits_per_op"]["median"], 20)
        # Of a VM that does not end well no work counts.
        shutil.rmtree(self.out)
        status, _, err = self.run_tool(*more, env={"FAKE_WRONG": "status"})
        self.assertEqual((status, err.count("ended with status 1")), (1, 12), err)

    def test_beside_another_vmm(self):
        with open(os.path.join(self.tmp, "m.json"), "w", encoding="utf-8") as f:
            json.dump({"models": [
                {"name": "mine", "class": "blk", "step": "virtio", "flags": ["--blk=virtio:{disk}"]},
                {"name": "other", "class": "blk", "label": "another VMM",
                 "command": [FAKE, "--initrd={initrd}", "--blk=virtio:{disk}", "--memory={memory}"]},
                {"name": "none", "class": "blk", "command": ["no-such-vmm"]}]}, f)
        self.CONFIGS = []
        status, out, err = self.run_tool("--models=%s/m.json" % self.tmp, "--json=-", "--report=%s/r.html" % self.tmp)
        self.assertEqual(status, 0, err)
        self.assertIn("there is no no-such-vmm", err)
        data = json.loads(out)
        command = next(r["command"] for r in data["runs"] if r["model"] == "other")
        self.assertIn("--memory=512M", command)
        found = data["analysis"][0]["models"]
        self.assertEqual(found["other"]["metrics"]["iops"]["median"], 500)
        self.assertTrue(found["other"]["checked"])
        # What it did inside is not known, which is not the same as nothing.
        self.assertIn("exits_per_op", found["mine"]["metrics"])
        self.assertNotIn("exits_per_op", found["other"]["metrics"])
        self.assertIn("cpu_us_per_op", found["other"]["metrics"])
        with open(os.path.join(self.tmp, "r.html"), encoding="utf-8") as f:
            self.check_page(f.read(), data, 10)

    PORT = "port=--console=emulated --console=emulated:unix:{echo}"

    def test_a_serial_port(self):
        self.CONFIGS = [self.PORT]
        more = "--workload=echo", "--rounds=1", "--warmup=0", "--json=-"
        status, out, err = self.run_tool(*more)
        self.assertEqual(status, 0, err)
        found = json.loads(out)["analysis"][-1]["models"]["port"]
        self.assertTrue(found["checked"])
        self.assertEqual(found["metrics"]["exits_per_op"]["median"], 20, "of the second console")
        for wrong, word in ("write", "the host received something else"), ("back", "reads something else than it wrote"):
            shutil.rmtree(self.out)
            status, _, err = self.run_tool(*more, env={"FAKE_WRONG": wrong})
            self.assertEqual(status, 1)
            self.assertIn(word, err)

    def test_results_of_two_places(self):
        self.assertEqual(self.run_tool()[0], 0)
        disks, ports, path = self.out, os.path.join(self.tmp, "ports"), os.path.join(self.tmp, "all.html")
        self.CONFIGS, self.out = [self.PORT], ports
        self.assertEqual(self.run_tool("--workload=echo")[0], 0)

        def of(*places):
            done = subprocess.run([TOOL, "--json=-", "--report=" + path] + ["--from=" + place for place in places],
                                  capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr

        status, out, err = of(disks, ports)
        self.assertEqual(status, 0, err)
        data = json.loads(out)
        self.assertEqual([sorted(e["models"]) for e in data["analysis"]], [["new", "old"], ["port"]])
        self.assertEqual(set(data["host"]["configurations"]), {"new", "old", "port"})
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.check_page(text, data)
        self.assertRegex(text, "blk: 500 /s.*console: ")
        self.assertIn("several have a port", of(ports, ports)[2])
        self.assertIn("nowhere", of(disks, self.tmp + "/nowhere")[2])
        with open(os.path.join(ports, "host.json"), "r+", encoding="utf-8") as f:
            host = dict(json.load(f), kernel="another")
            f.seek(0)
            json.dump(host, f)
            f.truncate()
        status, _, err = of(disks, ports)
        self.assertEqual(status, 2)
        self.assertIn("not of the same kernel", err)

    def test_interrupted_by_a_person(self):
        process = self.start(env={"FAKE_SLEEP": "0.2"})
        end = time.monotonic() + 60
        while (not os.path.exists(self.log) or len(self.starts()) < 2) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("goes on from here", err)
        self.assertNotIn("Traceback", err)

    def test_results_of_something_else_are_not_mixed(self):
        status, _, err = self.run_tool()
        self.assertEqual(status, 0, err)
        status, _, err = self.run_tool("--flags=--cpus=2")
        self.assertEqual(status, 2)
        self.assertIn("something else", err)

    def test_what_goes_wrong(self):
        for wrong, word in (("read", "read something else"), ("write", "reads something else"), ("end", "mvm ended"),
                            ("back", "no data to compare: back"), ("empty", "no data to compare: back"),
                            ("hang", "longer than 1 s")):
            shutil.rmtree(self.out, ignore_errors=True)
            status, _, err = self.run_tool("--rounds=1", "--warmup=0", *(["--timeout=1"] if wrong == "hang" else []),
                                           env={"FAKE_WRONG": wrong})
            self.assertEqual(status, 1, err)
            self.assertEqual(err.count("FAILED"), 2, err)
            self.assertIn(word, err)
        # What failed is made again.
        before = len(self.starts())
        self.assertEqual(self.run_tool("--rounds=1", "--warmup=0")[0], 0)
        self.assertEqual(len(self.starts()) - before, 2)

    def test_usage(self):
        for args, word in ((["novalue"], "neither"), (["a=--blk=virtio:{disk}", "a=--blk=virtio:{disk}"], "two"),
                           ([], "nothing to compare"), (["--workload=none", "a=--blk=virtio:{disk}"], "no workload")):
            done = subprocess.run([TOOL, "--mvm", FAKE, "--out", self.out] + args, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(word, done.stderr)
            self.assertFalse(os.path.exists(self.out))


class Page(HTMLParser):
    """What a browser would see of a report."""

    VOID = {"meta", "br", "hr", "rect", "path"}

    def __init__(self):
        super().__init__()
        self.stack, self.problems, self.figures = [], [], {}
        self.links, self.ids, self.data = set(), set(), ""
        self.figure = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.stack.append(tag)
        if attrs.get("id"):
            self.ids.add(attrs["id"])
        if tag == "a":
            self.links.add(attrs["href"].lstrip("#"))
        if attrs.get("class") == "figure":
            self.figure = (attrs["data-key"], attrs["data-value"])
        for name, value in attrs.items():
            if name in ("src", "href") and not value.startswith("#"):
                self.problems.append("<%s %s=%s>" % (tag, name, value))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            self.problems.append("</%s> closes <%s>" % (tag, self.stack[-1] if self.stack else ""))
        else:
            self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script":
            self.data += data
        elif self.figure:
            self.figures[self.figure[0]] = (self.figure[1], data)
            self.figure = None


class Pictures(unittest.TestCase):
    def test_bars(self):
        s = statistic.summary([50, 100, 150])
        rows = [('a "<b>', "virtio", s, True), ("c", None, statistic.summary([200]), False)]
        picture, other = svg.bars([("t", "/s", rows), ("other", "", rows[1:])])
        found = re.findall(r"<polygon class='(bar \w+)' points = '([^']*)'", picture)
        self.assertEqual([kind for kind, _ in found], ["bar virtio", "bar peer"])
        widths = [max(xs) - min(xs) for xs in ([float(p.split(",")[0]) for p in points.split()] for _, points in found)]
        self.assertAlmostEqual(widths[1], 2 * widths[0], delta=0.2)
        self.assertRegex(picture, "a '&lt;b(>|&gt;)")
        self.assertEqual((picture.count("class='outline'"), other.count("class='outline'")), (1, 0), "of the baseline")
        self.assertIn("<title>other</title>", other)
        for each in picture, other:
            page = Page()
            page.feed(each)
            self.assertEqual(page.problems, [])
            self.assertNotIn("rgb(", each, "colours are the page's")
            self.assertEqual(page.ids, set(), "pictures of a page share no names")

    def test_a_report_of_nothing(self):
        data = {"plan": {"models": [], "workloads": [], "baseline": None, "flags": [], "rounds": 0, "warmup": 0, "seconds": 1,
                         "not_here": [{"name": "x", "label": "X", "step": "vfio", "why": "</script><b>"}]},
                "host": {}, "runs": []}
        page = Page()
        page.feed(report.page(results.analyse(data)))
        self.assertEqual(page.problems, [])


class Tap(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.count = 0

    def say(self, good, test, more=""):
        self.count += 1
        print("%sok %d - compare: %s" % ("" if good else "not ", self.count, test.id().split(".", 1)[1]), flush=True)
        for line in more.splitlines()[-25:]:
            print("# " + line)

    def addSuccess(self, test):
        self.say(True, test)

    def addSkip(self, test, reason):
        self.count += 1
        print("ok %d - compare: %s # SKIP %s" % (self.count, test.id().split(".", 1)[1], reason), flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say(False, test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.say(False, test, self.errors[-1][1])


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    print("1..%d" % suite.countTestCases())
    result = Tap()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
