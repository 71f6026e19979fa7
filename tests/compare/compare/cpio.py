"""A file more for an initramfs: the kernel takes several archives one after the other (newc cpio)."""


def entry(name, content, mode, number):
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields)
    padded = head + raw
    padded += b"\0" * (-len(padded) % 4)
    return padded + content + b"\0" * (-len(content) % 4)


def archive(files):
    """files: {name: bytes}."""
    parts = [entry(name, content, 0o100755, i + 1) for i, (name, content) in enumerate(sorted(files.items()))]
    return b"".join(parts) + entry("TRAILER!!!", b"", 0, 0)


def append(initramfs, files, path):
    """A copy of the initramfs with these files in it. An archive begins at a multiple of four."""
    with open(initramfs, "rb") as f:
        content = f.read()
    with open(path, "wb") as f:
        f.write(content + b"\0" * (-len(content) % 4) + archive(files))
