"""What a run cost: the difference between two of mvm's --stats, per operation of the work."""

# What is compared: key, title, unit, which way is better, and whether it is shown as a chart. "per op" keys are
# divided by the operations that the guest counted.
METRICS = (
    ("iops", "requests per second", "/s", "more", True),
    ("packets", "packets per second", "/s", "more", True),
    ("throughput", "throughput", "B/s", "more", True),
    ("p50_us", "latency, median", "µs", "less", True),
    ("p99_us", "latency, 99th percentile", "µs", "less", True),
    ("cpu_us_per_op", "host CPU per operation", "µs", "less", True),
    ("exits_per_op", "exits to user space per operation", "", "less", True),
    ("kicks_per_op", "doorbells by ioeventfd per operation", "", "less", False),
    ("interrupts_per_op", "interrupts sent by mvm per operation", "", "less", True),
    ("kvm_exits_per_op", "exits to KVM per operation", "", "less", True),
    ("halts_per_op", "halts per operation", "", "less", False),
    ("syscalls_per_op", "data plane's system calls per operation", "", "less", False),
    ("copied_per_op", "bytes copied per operation", "B", "less", True),
    ("service_us", "time in mvm per request, mean", "µs", "less", False),
)


def find(stats, name):
    return next((d for d in stats["devices"] if d["name"] == name), None)


def number(d, key):
    """Counters that an older or newer mvm does not have are nothing."""
    return d.get(key, 0) if d else 0


def backend_ns(stats):
    """CPU time of processes that serve devices; their threads are not mvm's own."""
    return sum(t["cpu_ns"] for d in stats["devices"] or () for t in d["threads"] if "pid" in t)


def vcpu_sum(stats, *keys):
    total = 0
    for vcpu in stats["vcpus"]:
        for key in keys:
            total += vcpu.get("kvm", {}).get(key, 0)
    return total


def steps(before, after, name):
    """Of one device, counter by counter: what came between the two."""
    old, new = find(before, name), find(after, name)
    if not new:
        return {}
    counters = {key: value - number(old, key) for key, value in new.items()
                if isinstance(value, int) and key not in ("id",)}
    counters["latency_count"] = new["latency"]["count"] - (old["latency"]["count"] if old else 0)
    counters["latency_ns"] = (new["latency"]["count"] * new["latency"]["mean_ns"]
                              - (old["latency"]["count"] * old["latency"]["mean_ns"] if old else 0))
    return counters


def measure(before, after, device, guest):
    """before, after: mvm's statistics; device: "blk0"; guest: what the guest said of its work."""
    result = dict(guest)
    operations = guest["operations"]
    result["wall_s"] = (after["wall_ns"] - before["wall_ns"]) / 1e9
    cpu = after["process"]["cpu_ns"] - before["process"]["cpu_ns"] + backend_ns(after) - backend_ns(before)
    result["cpu_s"] = cpu / 1e9
    known = after["devices"] is not None  # else it is not mvm, and what it did inside is not known
    counted = steps(before, after, device) if known else {}
    if known:
        result["steps"] = counted
    if operations <= 0:
        return result
    if not {"iops", "packets", "throughput"} & result.keys() and result["wall_s"] > 0 and operations > 1:
        result["iops"] = operations / result["wall_s"]
    result["cpu_us_per_op"] = cpu / operations / 1e3
    if any("kvm" in v for v in after["vcpus"]):
        result["kvm_exits_per_op"] = (vcpu_sum(after, "exits") - vcpu_sum(before, "exits")) / operations
        result["halts_per_op"] = (vcpu_sum(after, "halt_exits") - vcpu_sum(before, "halt_exits")) / operations
    if not known:
        return result
    # Hardware that is passed through has no counters of mvm's: nothing is what mvm did for it.
    result["exits_per_op"] = number(counted, "exits") / operations
    result["kicks_per_op"] = number(counted, "kicks_ioeventfd") / operations
    result["interrupts_per_op"] = number(counted, "interrupts") / operations
    result["syscalls_per_op"] = number(counted, "syscalls") / operations
    result["copied_per_op"] = (number(counted, "bytes_copied") + number(counted, "bytes_copied_kernel")) / operations
    if number(counted, "latency_count") > 0:
        result["service_us"] = counted["latency_ns"] / counted["latency_count"] / 1e3
    return result
