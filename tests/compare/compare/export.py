"""Results as JSON, as CSV, as a table on the terminal, and as a table and a chart for a text like the README."""

import contextlib
import json
import sys

from . import measure, results


@contextlib.contextmanager
def opened(path):
    if path == "-":
        yield sys.stdout
    else:
        with open(path, "w", encoding="utf-8") as f:
            yield f


def to_json(data, path):
    with opened(path) as f:
        json.dump(data, f, indent=1)
        f.write("\n")


def to_csv(data, path):
    with opened(path) as f:
        results.write_csv(data, f)


def human(value, unit=""):
    """Three digits."""
    if value is None:
        return "–"
    scale = ""
    if unit in ("B", "B/s", "/s"):
        for scale in ("", "k", "M", "G", "T"):
            if abs(value) < 999.5:
                break
            value /= 1000
    if value == 0:
        text = "0"
    elif abs(value) < 0.01:
        text = "%.1g" % value
    elif abs(value) < 9.995:
        text = "%.2f" % value
    elif abs(value) < 99.95:
        text = "%.1f" % value
    else:
        text = "{:,.0f}".format(value).replace(",", " ")
    return (text + " " + scale + unit).strip() if unit or scale else text


MAIN = ("iops", "packets", "throughput", "p50_us")  # what a workload is about: the first of these that it has


def main_metric(entry):
    """The row of METRICS that the workload is about, or None."""
    key = next((k for k in MAIN if any(k in e["metrics"] for e in entry["models"].values())), None)
    return next((m for m in measure.METRICS if m[0] == key), None)


def shown(entry):
    return [m for m in measure.METRICS if any(m[0] in e["metrics"] for e in entry["models"].values())]


def to_text(data, f):
    labels = {m["name"]: m["label"] for m in data["plan"]["models"]}
    for entry in data["analysis"]:
        w = next(w for w in data["plan"]["workloads"] if w["name"] == entry["workload"])
        print("\n%s: %s; ratios to %s" % (w["name"], w["summary"], entry["baseline"]), file=f)
        for key, title, unit, _, _ in shown(entry):
            print("  " + title, file=f)
            for name, e in entry["models"].items():
                m = e["metrics"].get(key)
                if not m:
                    continue
                ratio = m["ratio"]
                print("    %-24s %12s  ±%3.0f%%%s" % (
                    labels[name], human(m["median"], unit), m["spread"] * 100,
                    "   × %.2f%s" % (ratio["median"], "" if ratio["sure"] else " (unsure)")
                    if ratio and name != entry["baseline"] else ""), file=f)
        for name, e in entry["models"].items():
            for why in e["failed"]:
                print("  %s failed: %s" % (labels[name], why), file=f)


def to_markdown(data, path):
    """A table for each workload: the main figure with its ratio, and what an operation costs."""
    labels = {m["name"]: m["label"] for m in data["plan"]["models"]}
    with opened(path) as f:
        for entry in data["analysis"]:
            main = main_metric(entry)
            if not main:
                continue
            w = next(w for w in data["plan"]["workloads"] if w["name"] == entry["workload"])
            columns = [main] + [m for m in shown(entry) if m[0] != main[0] and m[0] in
                                ("p50_us", "p99_us", "exits_per_op", "kicks_per_op", "interrupts_per_op", "cpu_us_per_op")]
            print("\n%s, %s:\n" % (w["name"], w["summary"]), file=f)
            print("| | × | %s |" % " | ".join(m[1] for m in columns), file=f)
            print("| --- |%s" % (" --- |" * (len(columns) + 1)), file=f)
            for name, e in entry["models"].items():
                found = e["metrics"].get(main[0])
                if not found:
                    continue
                ratio = "1" if name == entry["baseline"] or not found["ratio"] else "%.2f%s" % (
                    found["ratio"]["median"], "" if found["ratio"]["sure"] else "?")
                cells = [human(e["metrics"][m[0]]["median"], m[2]) if m[0] in e["metrics"] else "–" for m in columns]
                print("| %s | %s | %s |" % (labels[name], ratio, " | ".join(cells)), file=f)
