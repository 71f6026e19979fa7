"""The report: one page that needs nothing else, for a manager, a student and an engineer, in this order."""

import html
import json
import os

from . import measure, svg
from .export import human, main_metric, opened, shown
from .models import STEPS

HERE = os.path.dirname(os.path.realpath(__file__))

# What a model gives up for what it gains. True of the model, not of one measurement.
GIVES_UP = (
    ("", "any guest as it is", "save and migrate", "share one device", "overcommit memory", "host code the guest reaches"),
    ("emulated", "yes", "yes", "yes", "yes", "the device's whole register model, in mvm"),
    ("virtio", "needs virtio drivers", "yes", "yes", "yes", "rings and requests, in mvm"),
    ("vhost", "needs virtio drivers", "with the backend's help", "yes", "yes", "rings, in the kernel or another process"),
    ("vfio", "yes, with the hardware's driver", "only if the device can", "no: a function a guest",
     "no: memory is pinned", "little: configuration space; the rest is the hardware and its IOMMU"),
    ("sriov", "yes, with the VF's driver", "only if the device can", "yes, as many as there are VFs",
     "no: memory is pinned", "as vfio, and the card's own switch"),
    ("mdev", "yes, with the type's driver", "if its driver can", "yes, as the driver divides it",
     "no: memory is pinned where it does DMA", "the host's driver of the device"),
)

SERVERS = {key: server for key, _, _, server in STEPS}


def esc(value):
    return html.escape(str(value))


def figure(entry, name, key, unit):
    """A median in the text, with the JSON's own number beside it for whoever wants to check."""
    m = entry["models"][name]["metrics"].get(key)
    if not m:
        return "–"
    return '<span class="figure" data-key="%s" data-value="%r">%s</span>' % (
        esc("/".join((entry["workload"], name, key))), m["median"], esc(human(m["median"], unit)))


def by_name(items):
    return {item["name"]: item for item in items}


# ---- the parts ---------------------------------------------------------------------------------

def lead(data):
    kind = data.get("host", {}).get("virtualization")
    if kind == "emulated":
        return "<p class=note>This was measured on an <b>emulated</b> CPU: its times are not those of any real machine. "\
               "Read the counts and the ratios.</p>"
    if kind == "nested":
        return "<p class=note>This was measured inside a virtual machine, so every exit costs more than on bare hardware. "\
               "Read the counts and the ratios before the times.</p>"
    return ""


def sentence(data, entry, models):
    """What one workload says, in words; None if there is nothing to compare."""
    w = by_name(data["plan"]["workloads"])[entry["workload"]]
    main = main_metric(entry)
    if not main or sum(main[0] in e["metrics"] for e in entry["models"].values()) < 2:
        return None
    key, _, _, better, _ = main
    have = {n: e["metrics"][key]["median"] for n, e in entry["models"].items() if key in e["metrics"]}
    best = (max if better == "more" else min)(have, key=have.get)
    base = entry["baseline"] if entry["baseline"] in have else next(iter(have))
    ratio = entry["models"][best]["metrics"][key]["ratio"]
    text = "<b>%s</b>: <b>%s</b> is ahead" % (esc(w["summary"]), esc(models[best]["label"]))
    if best != base and ratio:
        times = ratio["median"] if better == "more" else 1 / ratio["median"] if ratio["median"] else 0
        text += ", %.1f times as good as %s%s" % (times, esc(models[base]["label"]),
                                                  "" if ratio["sure"] else " (within the noise of these runs)")
    elif best == base:
        text += ", and is the baseline"
    exits = {n: e["metrics"]["exits_per_op"]["median"] for n, e in entry["models"].items() if "exits_per_op" in e["metrics"]}
    if best in exits:
        worst = max(exits, key=exits.get)
        text += "; it leaves the guest for mvm %s times a %s" % (
            figure(entry, best, "exits_per_op", ""), esc(w["operation"]))
        if worst != best:
            text += ", %s does %s times" % (esc(models[worst]["label"]), figure(entry, worst, "exits_per_op", ""))
    return text + "."


def summary(data, models):
    lines = [s for s in (sentence(data, e, models) for e in data["analysis"]) if s]
    return "<ul>%s</ul>" % "".join("<li>%s</li>" % s for s in lines) if lines else "<p>There is nothing to compare yet.</p>"


def step_values(data, models, key, cls):
    """A step's measured lines: of its best configuration in the first workload of a class that has it."""
    for entry in data["analysis"]:
        mine = [n for n in entry["models"] if models[n]["step"] == key and models[n]["class"] == cls]
        if not mine:
            continue
        first = next((k for k in ("iops", "packets", "p50_us", "throughput") if any(k in entry["models"][n]["metrics"] for n in mine)), None)
        if not first:
            continue
        unit, better = next((m[2], m[3]) for m in measure.METRICS if m[0] == first)
        have = {n: entry["models"][n]["metrics"][first]["median"] for n in mine if first in entry["models"][n]["metrics"]}
        best = (max if better == "more" else min)(have, key=have.get)
        exits = entry["models"][best]["metrics"].get("exits_per_op")
        line = "%s: %s" % (cls, human(have[best], unit))
        return [line] + ["%s exits/op" % human(exits["median"])] if exits else [line]
    return []


def evolution(data, models):
    steps = []
    for key, title, caption, _ in STEPS:
        lines = [line for cls in ("blk", "net", "console") for line in step_values(data, models, key, cls)]
        absent = [m["why"] for m in data["plan"].get("not_here", []) if m["step"] == key]
        why = absent[0] if absent else "not part of this comparison"
        steps.append((key, title, caption, lines, why))
    return '<div class="scroll wide">%s</div>' % svg.evolution(steps)


def charts(data, models):
    parts, wanted = [], []
    workloads = by_name(data["plan"]["workloads"])
    for entry in data["analysis"]:
        w = workloads[entry["workload"]]
        parts.append("<h3>%s</h3><p class=small>%s</p><div class=charts>" % (esc(w["name"]), esc(w["summary"])))
        for key, title, unit, better, chart in shown(entry):
            rows = rows_of(entry, models, key)
            if not chart or not rows or not any(r[2]["median"] for r in rows):
                continue
            parts.append('<figure><figcaption>%s <span class=small>%s is better</span></figcaption>' % (esc(title), better))
            wanted.append((len(parts), (title, unit, rows)))
            parts.append("</figure>")
        parts.append("</div>")
    for (at, _), picture in zip(wanted, svg.bars([chart for _, chart in wanted])):
        parts[at] = (picture or "<p class=small>No chart: gnuplot was not there (Debian: gnuplot-nox).</p>") + parts[at]
    return "".join(parts)


def arrows(steps, step):
    """One operation as its counted steps."""
    def get(*keys):
        return sum(steps.get(k, 0) for k in keys)
    exits = get("pio_reads", "pio_writes", "mmio_reads", "mmio_writes")
    direct = step in ("vfio", "sriov", "mdev")
    result = [(0, 2, exits, "registers by exit (%s reads)" % human(get("pio_reads", "mmio_reads")))]
    if direct:
        # What its driver makes of software is reached by exits, where hardware is by its own pages.
        result.append((0, 3, 0 if step == "mdev" and exits else 1, "doorbell and DMA, past everybody"))
    else:
        result.append((0, 1, get("kicks_ioeventfd"), "doorbells that KVM takes"))
        result.append((1, 3, get("wakeups"), "wake-ups of who serves"))
    result.append((2, 3, get("syscalls"), "system calls, registers passed on" if direct else "system calls of the data plane"))
    copied = get("bytes_copied", "bytes_copied_kernel")
    result.append((3, 0, 1 if copied else 0, "copy, %s in all" % human(copied, "B") if copied else "copy"))
    result.append((2, 1, get("irqs_ioctl", "irqs_line", "irqs_own", "irqs_irqfd"), "interrupts sent by mvm"))
    return result


def paths(data, models):
    parts = []
    for entry in data["analysis"]:
        w = by_name(data["plan"]["workloads"])[entry["workload"]]
        for name, e in entry["models"].items():
            if not e["steps"]:
                continue
            m = models[name]
            parts.append("<figure><figcaption>%s, %s: a %s</figcaption><div class=scroll>%s</div></figure>" % (
                esc(m["label"]), esc(w["name"]), esc(w["operation"]),
                svg.path("%s, one %s" % (m["label"], w["operation"]), SERVERS.get(m["step"], "backend"),
                         arrows(e["steps"], m["step"]))))
    return '<div class=charts>%s</div>' % "".join(parts)


def gives_up():
    head, *rows = GIVES_UP
    return "<div class=scroll><table><tr>%s</tr>%s</table></div>" % (
        "".join("<th>%s</th>" % esc(c) for c in head),
        "".join("<tr><th>%s</th>%s</tr>" % (esc(r[0]), "".join("<td>%s</td>" % esc(c) for c in r[1:])) for r in rows))


def tables(data, models):
    parts = []
    for entry in data["analysis"]:
        metrics = shown(entry)
        parts.append("<h3>%s</h3><div class=scroll><table><tr><th></th>%s<th>rounds</th><th>data</th></tr>" % (
            esc(entry["workload"]), "".join("<th>%s</th>" % esc(m[1]) for m in metrics)))
        for name, e in entry["models"].items():
            cells = []
            for key, _, unit, _, _ in metrics:
                m = e["metrics"].get(key)
                more = ""
                if m:
                    more = '<span class=small> ±%.0f%%' % (m["spread"] * 100)
                    if m["ratio"] and name != entry["baseline"]:
                        more += ", ×%.2f%s" % (m["ratio"]["median"], "" if m["ratio"]["sure"] else "?")
                    more += "</span>"
                cells.append("<td>%s%s</td>" % (figure(entry, name, key, unit), more))
            cells.append("<td>%d%s</td><td>%s</td>" % (
                e["rounds"], ", %d failed" % len(e["failed"]) if e["failed"] else "",
                "checked" if e["checked"] else "not checked"))
            parts.append("<tr><th>%s%s</th>%s</tr>" % (
                esc(models[name]["label"]), " (baseline)" if name == entry["baseline"] else "", "".join(cells)))
        parts.append("</table></div>")
    return "".join(parts)


def environment(data):
    host = data.get("host", {})
    rows = [("date", host.get("date")), ("mvm", host.get("mvm")), ("kernel", host.get("kernel")),
            ("CPU", "%s, %s CPUs" % (host.get("cpu"), host.get("cpus"))), ("virtualization", host.get("virtualization")),
            ("memory", host.get("memory")), ("governor", host.get("governor")), ("halt polling", host.get("halt_poll_ns")),
            ("pinned to", host.get("pin") or "nothing"), ("kernel command line", host.get("kernel_cmdline")),
            ("flags for all", " ".join(data["plan"]["flags"]) or "none"),
            ("rounds", "%s, after %s to warm up; %s s of work in each" % (
                data["plan"]["rounds"], data["plan"]["warmup"], data["plan"]["seconds"]))]
    rows += [("mitigation: " + k, v) for k, v in host.get("mitigations", {}).items()]
    text = "<div class=scroll><table>%s</table></div>" % "".join("<tr><th>%s</th><td>%s</td></tr>" % (esc(k), esc(v)) for k, v in rows)
    for name, config in host.get("configurations", {}).items():
        text += "<details><summary>%s, all that was chosen</summary><pre>%s</pre></details>" % (esc(name), esc(config))
    return text


def failures(data):
    rows = [(m["label"], "", "not here: " + m["why"]) for m in data["plan"].get("not_here", [])]
    rows += [(r["model"], r["workload"], r["why"]) for r in data["runs"] if not r["good"]]
    if not rows:
        return ""
    return "<h2>What did not run</h2><div class=scroll><table>%s</table></div>" % "".join(
        "<tr><th>%s</th><td>%s</td><td>%s</td></tr>" % tuple(esc(c) for c in r) for r in rows)


METHOD = """<p>Each configuration ran in a virtual machine of its own, made anew for each run, and the configurations took turns
(A B C A B C …), so that whatever else the machine did fell on all of them alike. Rounds to warm up are not counted.
Bars end at the median; the line over a bar is the middle half of the runs (of fewer than four runs, all of them).
Ratios (×) are made round by round, and the median of those is shown; a “?” or “unsure” says that the rounds do not agree
on which side of 1 it is. mvm's counters were read right before and right after the work. Host CPU is all of mvm's
process, with the guest, kernel workers inside it and backend processes. Data was checked with SHA-256 on both sides.</p>"""


def css():
    with open(os.path.join(HERE, "report.css"), encoding="utf-8") as f:
        return f.read()


def rows_of(entry, models, key):
    return [(models[n]["label"], models[n]["step"], e["metrics"][key], n == entry["baseline"])
            for n, e in entry["models"].items() if key in e["metrics"]]


def chart(data, path):
    """The main figure of the first workload, as a picture of its own."""
    entry = next((e for e in data["analysis"] if main_metric(e)), None)
    if not entry:
        raise SystemExit("mvm-compare: there is nothing to draw yet")
    key, title, unit, _, _ = main_metric(entry)
    rows = rows_of(entry, by_name(data["plan"]["models"]), key)
    picture = svg.bars([("%s: %s" % (entry["workload"], title), unit, rows)])[0]
    if not picture:
        raise SystemExit("mvm-compare: --chart: gnuplot is missing; apt-get install gnuplot-nox")
    with opened(path) as f:
        f.write(picture.replace("<title>", "<style>%s svg { background: var(--bg) }</style><title>" % css(), 1) + "\n")


def page(data):
    models = by_name(data["plan"]["models"])
    host = data.get("host", {})
    embedded = json.dumps(data).replace("</", "<\\/")
    return """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Four ways to give a guest its I/O, compared</title><style>%s</style></head><body>
<h1>Four ways to give a guest its I/O, compared</h1>
<p class=small>%s, Linux %s, %s</p>%s
<nav><a href="#summary">Summary</a> <a href="#evolution">Evolution</a> <a href="#charts">Charts</a>
<a href="#paths">Paths</a> <a href="#price">What it costs</a> <a href="#figures">Figures</a> <a href="#method">Method</a></nav>
<h2 id=summary>Summary</h2>%s
<h2 id=evolution>The evolution</h2>%s
<h2 id=charts>Charts</h2>%s
<h2 id=paths>Who does what</h2><p class=small>Counted, for one operation. What a model saves is drawn faintly.</p>%s
<h2 id=price>What each model gives up</h2>%s
<h2 id=figures>All figures</h2>%s%s
<h2 id=method>How it was measured</h2>%s%s
<script type="application/json" id="data">%s</script></body></html>
""" % (css(), esc(host.get("date", "")), esc(host.get("kernel", "?")), esc(host.get("cpu", "?")), lead(data),
       summary(data, models), evolution(data, models), charts(data, models), paths(data, models), gives_up(),
       tables(data, models), failures(data), METHOD, environment(data), embedded)


def write(data, path):
    with open(path, "w", encoding="utf-8") as f:
        f.write(page(data))
