"""Configurations: what a device is served by, as data. See models.json for the fields."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess

# The evolution, step by step: a configuration's "step", its title, a caption, and who moves the data.
STEPS = (
    ("emulated", "emulated", "software plays the hardware, register by register", "mvm's thread"),
    ("virtio", "virtio", "queues made for virtual machines; mvm serves them", "mvm's thread"),
    ("vhost", "vhost", "the same queues; kernel, process or vDPA serves them", "kernel or process"),
    ("vfio", "vfio", "the hardware itself, a whole function", "hardware"),
    ("sriov", "SR-IOV", "the hardware, one of many virtual functions", "hardware"),
    ("mdev", "mdev", "a device composed in software, one at a time", "host's driver"),
)

FLAG = re.compile(r"--(\w+)=(\w+)")


class Model:
    def __init__(self, name, cls, flags=(), step=None, label=None, needs=(), prepare=None, restore=None, command=None,
                 **more):
        self.name = name  # of the configuration
        self.cls = cls  # which device the work is about: blk, console, net
        self.flags = list(flags)
        self.command = command  # of another VMM, in words; mvm's is made of the flags
        self.step = step  # where it stands in the evolution; None for another VMM
        self.label = label or name
        self.needs = list(needs)
        self.prepare, self.restore = prepare, restore  # shell, before and after each VM
        self.more = more  # for the report

    @classmethod
    def from_flags(cls, name, text):
        flags = shlex.split(text)
        first = FLAG.match(flags[0]) if flags else None
        if not first:
            raise SystemExit("mvm-compare: %s=%s: that does not begin with a device flag" % (name, text))
        return cls(name, first.group(1), flags, step=first.group(2))

    def data(self):
        return {"name": self.name, "class": self.cls, "flags": self.flags, "step": self.step, "label": self.label,
                "command": self.command}

    def words(self):
        """All that is said to the VMM of this configuration."""
        return self.command or self.flags


def load(path):
    with open(path, encoding="utf-8") as f:
        entries = json.load(f)["models"]
    return [Model(e.pop("name"), e.pop("class"), **e) for e in (dict(e) for e in entries)]


def rows(mvm):
    """(class, model, hw) of each device that the binary has; an empty line ends the table."""
    try:
        said = subprocess.run([mvm, "--list-devices"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise SystemExit("mvm-compare: %s does not run: %s" % (mvm, e)) from e
    table = itertools.takewhile(str.strip, said.splitlines()[1:])
    return {tuple(line.split()[:3]) for line in table}


def starts(mvm, flag):
    """Does it take the flag as far as the kernel, which is not there? (Then it would say that of the flag.)"""
    done = subprocess.run([mvm, "--kernel=/dev/null", "--memory=16M", "--console=emulated:null", flag],
                          capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    return flag.partition("=")[0] not in done.stderr


def lacking(model, there, mvm):
    """Why a configuration cannot run here, or None."""
    classes = {r[0] for r in there}
    if model.command and not shutil.which(model.command[0]):
        return "there is no %s" % model.command[0]
    for flag in model.flags:
        match = FLAG.match(flag)
        if not match or match.group(1) not in classes:  # --irqchip=user is no device
            continue
        hw = re.search(r",hw=([^,]+)", flag)
        if not any(r[:2] == match.groups() and (not hw or r[2] == hw.group(1)) for r in there):
            return "this mvm has no --%s=%s%s" % (*match.groups(), "," + hw.group(1) if hw else "")
    for need in model.needs:
        kind, _, what = need.partition(":")
        if kind == "probe" and not starts(mvm, what):
            return "this mvm does not do %s" % what
        if kind == "file" and not os.path.exists(what):
            return "there is no %s" % what
        if kind == "shell" and subprocess.run(["sh", "-c", what], stdin=subprocess.DEVNULL, check=False,
                                              capture_output=True).returncode:
            return model.more.get("needs_text") or "this fails: %s" % what
    return None


def usable(given, mvm):
    there = rows(mvm)
    able, unable = [], []
    for model in given:
        why = lacking(model, there, mvm)
        if why:
            unable.append((model, why))
        else:
            able.append(model)
    return able, unable
