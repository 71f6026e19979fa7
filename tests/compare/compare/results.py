"""What was planned, what came of it so far, and what that says."""

import csv
import hashlib
import json
import os

from . import measure, statistic


class Plan:
    """What is to be run, in which order."""

    def __init__(self, models, unable, workloads, rounds, warmup, baseline, seconds, flags, pin):
        self.models, self.unable, self.workloads = models, unable, workloads
        self.rounds, self.warmup, self.baseline = rounds, warmup, baseline
        self.seconds, self.flags, self.pin = seconds, flags, pin

    def visits(self):
        """(round, workloads, model), a VM each, round negative for warm-up: A B C A B C …"""
        for number in range(-self.warmup, self.rounds):
            for model in self.models:
                yield number, [w for w in self.workloads if w.cls in (None, model.cls)], model

    def data(self):
        return {
            "models": [m.data() for m in self.models],
            "not_here": [dict(m.data(), why=why) for m, why in self.unable],
            "workloads": [w.data() for w in self.workloads],
            "rounds": self.rounds, "warmup": self.warmup, "baseline": self.baseline, "seconds": self.seconds,
            "flags": self.flags, "pin": self.pin,
        }

    def key(self):
        """What must be the same for results to belong together; more rounds may be added later."""
        same = {k: v for k, v in self.data().items() if k in ("models", "workloads", "seconds", "flags", "pin")}
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]


class Store:
    """A directory: plan.json, and runs.jsonl with a line for each run that has ended."""

    def __init__(self, path, plan, error):
        self.path = path
        self.runs = os.path.join(path, "runs.jsonl")
        plan_path = os.path.join(path, "plan.json")
        os.makedirs(path, exist_ok=True)
        content = dict(plan.data(), key=plan.key())
        if os.path.exists(plan_path):
            with open(plan_path, encoding="utf-8") as f:
                if json.load(f)["key"] != plan.key():
                    error("%s holds results of something else; name another place with --out" % path)
        with open(plan_path + ".new", "w", encoding="utf-8") as f:
            json.dump(content, f, indent=1)
        os.rename(plan_path + ".new", plan_path)
        self.done = {(r["round"], r["workload"], r["model"]) for r in read_runs(self.runs, repair=True) if r["good"]}

    def has(self, number, workload, model):
        return (number, workload.name, model.name) in self.done

    def add(self, run):
        """On disk when this returns; whatever kills us later cannot take it away."""
        with open(self.runs, "a", encoding="utf-8") as f:
            f.write(json.dumps(run) + "\n")
            f.flush()
            os.fsync(f.fileno())

    def load(self):
        return load(self.path)


def read_runs(path, repair=False):
    """Runs so far. A last line that is not whole was being written when we were killed: it is cut off."""
    runs, good = [], 0
    try:
        with open(path, "rb") as f:
            for line in f:
                try:
                    runs.append(json.loads(line))
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    runs.pop()
                    break
                good += len(line)
    except FileNotFoundError:
        return []
    if repair and os.path.getsize(path) != good:
        os.truncate(path, good)
    return runs


def load(path):
    with open(os.path.join(path, "plan.json"), encoding="utf-8") as f:
        plan = json.load(f)
    host = {}
    if os.path.exists(os.path.join(path, "host.json")):
        with open(os.path.join(path, "host.json"), encoding="utf-8") as f:
            host = json.load(f)
    return {"plan": plan, "host": host, "runs": latest(read_runs(os.path.join(path, "runs.jsonl")))}


def merge(parts):
    """Results of several places as those of one comparison. ValueError: they do not belong together."""
    first, *others = parts
    data = {"plan": dict(first["plan"]), "host": dict(first["host"]), "runs": list(first["runs"])}
    for part in others:
        for key in ("kernel", "cpu", "virtualization", "mvm"):
            if part["host"].get(key) != first["host"].get(key):
                raise ValueError("%s and %s are not of the same %s" % (first["host"].get(key), part["host"].get(key), key))
        for key in ("rounds", "seconds", "flags", "pin"):
            if part["plan"][key] != first["plan"][key]:
                raise ValueError("they were not made with the same %s" % key)
        twice = {m["name"] for m in data["plan"]["models"]} & {m["name"] for m in part["plan"]["models"]}
        if twice:
            raise ValueError("several have a %s" % ", ".join(sorted(twice)))
        for key in ("models", "workloads", "not_here"):
            names = {each["name"] for each in data["plan"][key]}
            data["plan"][key] = data["plan"][key] + [each for each in part["plan"][key] if each["name"] not in names]
        data["host"]["configurations"] = {**data["host"].get("configurations", {}), **part["host"].get("configurations", {})}
        data["runs"] += part["runs"]
    return data


def latest(runs):
    """A run that failed and was made again counts as it ended the last time."""
    found = {(r["round"], r["workload"], r["model"]): r for r in runs}
    return sorted(found.values(), key=lambda r: r["begin"])


def values(runs, workload, model, key):
    """{round: value} of the runs that count."""
    return {r["round"]: r["metrics"].get(key) for r in runs
            if r["good"] and r["round"] >= 0 and r["workload"] == workload and r["model"] == model}


def analyse(data, baseline=None):
    """Adds "analysis": for each workload and configuration the statistics of each metric."""
    plan, runs = data["plan"], data["runs"]
    analysis = []
    for w in plan["workloads"]:
        models = [m for m in plan["models"] if w["class"] in (None, m["class"])]
        if not models:
            continue
        names = [m["name"] for m in models]
        base = baseline or plan["baseline"]
        base = base if base in names else names[0]
        entry = {"workload": w["name"], "baseline": base, "models": {}}
        for name in names:
            metrics = {}
            for key, *_ in measure.METRICS:
                ours = values(runs, w["name"], name, key)
                found = statistic.summary(ours.values())
                if found:
                    found["ratio"] = statistic.ratio(ours, values(runs, w["name"], base, key))
                    metrics[key] = found
            mine = [r for r in runs if r["workload"] == w["name"] and r["model"] == name and r["round"] >= 0]
            entry["models"][name] = {
                "metrics": metrics, "rounds": sum(r["good"] for r in mine),
                "failed": [r["why"] for r in mine if not r["good"]],
                "steps": per_operation(mine),
                "checked": all(r.get("checked") for r in mine if r["good"]) if mine else False,
            }
        analysis.append(entry)
    return dict(data, analysis=analysis)


def per_operation(runs):
    """Median of each counted step per operation."""
    collected = {}
    for r in runs:
        if not r["good"] or not r["metrics"].get("operations"):
            continue
        for key, value in r["metrics"].get("steps", {}).items():
            collected.setdefault(key, []).append(value / r["metrics"]["operations"])
    return {key: statistic.summary(v)["median"] for key, v in collected.items()}


def csv_rows(data):
    keys = [key for key, *_ in measure.METRICS]
    yield ["round", "workload", "model", "good", "operations", "wall_s", "cpu_s"] + keys
    for r in data["runs"]:
        m = r.get("metrics") or {}
        yield [r["round"], r["workload"], r["model"], int(r["good"])] + [
            m.get(k, "") for k in ["operations", "wall_s", "cpu_s"] + keys]


def write_csv(data, f):
    csv.writer(f, lineterminator="\n").writerows(csv_rows(data))
