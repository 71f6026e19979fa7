#!/bin/sh
# virtio-console with Linux's driver: a shell on hvc0 of a terminal, the terminal's size and its changes, 64 KiB
# typed at once, and a terminal that nobody reads.
# lab: timeout=300
. "$LAB_DIR/lib/lab.sh"

mvm=$MVM_BUILD/mvm

# Types on a terminal like a person: waits for what it shows, then goes on. Prints what was shown.
cat >"$LAB_TMP/person.py" <<'END'
import base64, fcntl, hashlib, os, pty, re, select, struct, sys, termios, time

def size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.3)  # until the terminal has its size
    os.execv(sys.argv[1], sys.argv[1:])
size(fd, 33, 101)
os.set_blocking(fd, False)
shown = b""
end = time.time() + 220

def move(out=b""):
    """Shows what there is and types what fits; what is left."""
    global shown
    r, w, _ = select.select([fd], [fd] if out else [], [], 1)
    if r:
        try:
            shown += os.read(fd, 65536)
        except OSError:  # the other side has closed it
            raise EOFError
    if w:
        out = out[os.write(fd, out[:4096]):]
    if time.time() > end:
        sys.exit(shown.decode("latin-1") + "\nperson: time is over")
    return out

def wait(what):
    global shown
    while not re.search(what, shown):
        move()
    print(shown.decode("latin-1"), flush=True)
    shown = b""

def say(text):
    while text:
        text = move(text)

wait(rb"~# ")
say(b"echo size $(stty size)\n")
wait(rb"size \d+ \d+[\s\S]*# ")
size(fd, 50, 132)
time.sleep(1)
say(b"echo size $(stty size)\n")
wait(rb"size \d+ \d+[\s\S]*# ")
typed = base64.b64encode(os.urandom(49152))
say(b"stty raw -echo; echo re''ady; head -c 65536 | sha256sum; stty sane\n")
wait(rb"ready")
say(typed)
wait(rb"[0-9a-f]{64}")
print("typed " + hashlib.sha256(typed).hexdigest())
say(b"\nexit\n")
try:
    while True:
        move()
except EOFError:
    pass
print(shown.decode("latin-1"))
print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
text=$(python3 "$LAB_TMP/person.py" "$mvm" --memory=512M --console=virtio --append=quiet 2>&1 | tr -d '\r')
printf '%s\n' "$text" >"$LAB_TMP/person.log"
like "$text" '^size 33 101$' "the guest knows the terminal's size"
like "$text" '^size 50 132$' "the guest learns of the terminal's new size"
wanted=$(echo "$text" | sed -n 's/^typed //p')
like "$text" "${wanted:-nothing}  -" "64 KiB typed arrive whole and in order"
like "$text" '^status 0$' "the shell is left and the guest powers off"

# The kernel waits for its console with a lock held; nobody who reads must not stop it for good.
mkfifo "$LAB_TMP/stuck"
exec 9<>"$LAB_TMP/stuck"
truncate -s 1M "$LAB_TMP/stuck.img"
# More than the pipe and mvm's own buffer hold together.
work='dd if=/dev/zero bs=4k count=48 2>/dev/null; echo alive | dd of=/dev/vda conv=fsync 2>/dev/null; poweroff -f'
guest_run stuck 180 sh -c "exec '$mvm' --memory=512M --console=virtio,ring=packed --blk=virtio:'$LAB_TMP/stuck.img' \
    --append='quiet mvm.run=\"$work\"' >'$LAB_TMP/stuck'"
is "$?" 0 "stuck terminal: the guest powers off"
is "$(head -c 5 "$LAB_TMP/stuck.img")" alive "stuck terminal: the guest goes on"
exec 9>&-
