"""Where a comparison was made: all that may explain a number later."""

import glob
import os
import platform
import re
import subprocess
import time


def read(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return default


def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout.strip()
    except OSError:
        return ""


def cpu():
    info = read("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", info, re.M)
    flags = re.search(r"^flags\s*: (.*)$", info, re.M)
    return (model.group(1) if model else platform.machine()), set(flags.group(1).split() if flags else ())


def virtualization(model, flags):
    """"none", "nested" (KVM inside a VM) or "emulated" (an emulated CPU: no times of its mean anything)."""
    product = read("/sys/class/dmi/id/product_name") + " " + read("/sys/class/dmi/id/sys_vendor")
    if "QEMU TCG" in model or ("QEMU" in product and "hypervisor" in flags and not os.path.exists("/sys/hypervisor")
                               and "TCG" in read("/proc/cpuinfo")):
        return "emulated"
    return "nested" if "hypervisor" in flags else "none"


def collect(mvm, extra):
    model, flags = cpu()
    mitigations = {os.path.basename(p): read(p) for p in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*"))}
    governor = sorted({read(p) for p in glob.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")})
    info = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "kernel": platform.release(),
        "kernel_cmdline": read("/proc/cmdline"),
        "cpu": model,
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "memory": re.sub(r"\s+", " ", read("/proc/meminfo").split("\n")[0]),
        "mitigations": mitigations,
        "governor": ", ".join(governor) or "unknown",
        "virtualization": virtualization(model, flags),
        "halt_poll_ns": read("/sys/module/kvm/parameters/halt_poll_ns", "unknown"),
        "mvm": said(mvm, "--version"),
    }
    info.update(extra)
    return info
