"""What the host does for a guest, and checks after it: one class a guest that needs it."""




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
        return ["--append=cpus=%02d" % int(cpus[0])]


HOSTS = {
    "acpi": Acpi,
}
