"""Descriptors run out, the disk is full, files may not grow, the clock is set: under load, and what passes is whole."""
import os
import re
import resource
import shutil
import ssl
import struct
import subprocess
import tempfile
import threading
import time

import pytest
from gateway import SLOW, SLUICE, Gateway, certificate, free_port
from mixed import IDENTITIES, SCRIPTS, WORDS, Books, Mixed, chains, identities, leftovers, listeners
from sink import Sink, Talker, configuration

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 30 if os.environ.get("SLUICE_FAULTS") == "all" else 4


class World:
    may_lose, uncertain, over, pause, patience = False, False, False, 0.0, 90 * SLOW

    def __init__(self, top="", **kw):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = certificate()
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        self.sinks = [Books(slow=0.02, can=("PIPELINING", "8BITMIME", "CHUNKING", *WORDS)), Books(slow=0, context=context, can=("PIPELINING",))]
        self.ports = {name: free_port() for name in ("plain", "held", "empty", "smtps", *IDENTITIES)}
        self.conf = ('hostname "mx.test"\nworkers(2)\ncontrol "control"\nlimits { connections_per_client = 0, errors = 1000, stress = 0, hold_memory = "4K" }\n'
                     'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\nbackend "b" { "127.0.0.1:%d", pool = 4, fall = 100 }\n'
                     'backend "t" { "127.0.0.1:%d", tls = "opportunistic", pool = 2, fall = 100 }\nbackend "jail" { "127.0.0.1:%d" }\n%s%s%s' % (
                         folder, folder, self.sinks[0].port, self.sinks[1].port, self.sinks[0].port, top + identities(self.sinks[0].port), chains(), listeners(self.ports)))
        self.gateway = Gateway(self.conf, files={n: t % 0 if "%d" in t else t for n, t in SCRIPTS.items()}, **kw)

    def load(self, n, seconds, meanwhile=None):
        """Mixed clients for so long; what was wrong."""
        clients = [Mixed(i, self, most=30000, name=b"s") for i in range(n)]
        for c in clients:
            c.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if meanwhile:
                meanwhile()
            time.sleep(0.2)
        self.over = True
        for c in clients:
            c.join(self.patience)
            assert not c.is_alive(), "a client still waits\n" + self.gateway.log()[-2000:]
        self.over = False
        self.acknowledged = sum(c.acknowledged for c in clients)
        wrong = [w for c in clients for w in c.wrong] + leftovers(self, clients)
        for s in self.sinks:
            s.taken.clear()
        return wrong

    def end(self):
        for s in self.sinks:
            s.close()
        return self.gateway.stop()


@pytest.mark.parametrize("descriptors,clients", [(110, 12), (110, 80), (400, 150)])
def test_too_few_descriptors_keep_clients_waiting_or_cost_a_4yz_and_no_mail(descriptors, clients):
    """Sessions, connections to backends and files of held content together want more than there are."""
    world = World(limit=(resource.RLIMIT_NOFILE, descriptors))
    world.gateway.start()
    reloads = []

    def reload():
        code, out, err = world.gateway.ask("reload")
        reloads.append((code, err))
    try:
        wrong = world.load(clients, SECONDS, reload)
        acknowledged = world.acknowledged
        wrong += world.load(2, 0.5)  # room again: nobody waits any more
        log = world.gateway.log()
    finally:
        ended = world.end()
    assert not wrong, "\n".join(wrong[:20]) + "\n" + log[-2000:]
    assert not ended, ended
    assert acknowledged > SECONDS * 5 and world.acknowledged > 0, (acknowledged, world.acknowledged)
    assert all(code in (0, 2) for code, _ in reloads)
    print("\n%d descriptors, %d clients: %d acknowledged, %d of %d reloads" % (
        descriptors, clients, acknowledged, sum(code == 0 for code, _ in reloads), len(reloads)))


@pytest.fixture
def small_disk():
    folder = tempfile.mkdtemp(prefix="sluice-disk-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True)
    if done.returncode:
        os.rmdir(folder)
        pytest.skip("no mount here: files that may not grow stand for the full disk")
    yield folder
    for _ in range(50):
        if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_full_disk_under_the_spool_and_the_quarantine_costs_a_452_and_is_got_over(small_disk):
    world = World(top='', env={"TMPDIR": small_disk})
    world.conf = world.conf.replace('backend "jail" { "127.0.0.1:%d" }' % world.sinks[0].port, 'backend "jail" { "maildir:%s/jail" }' % small_disk)
    with open(world.gateway.conf, "w") as f:
        f.write(world.conf.replace('hold_memory = "4K"', 'hold_memory = "64K"'))
    world.gateway.start()
    ballast = small_disk + "/ballast"
    try:
        with open(ballast, "wb", buffering=0) as f, pytest.raises(OSError):
            while f.write(b"x" * 4096) == 4096:
                pass
            raise OSError
        assert send(world.ports["held"], b"a", 100000).startswith(b"452 4.3.1")
        assert send(world.ports["held"], b"jail", 1000).startswith(b"452") or send(world.ports["held"], b"jail", 60000).startswith(b"452")
        assert send(world.ports["held"], b"a", 1000).startswith(b"250")  # in memory
        assert send(world.ports["plain"], b"a", 1000).startswith(b"250")
        os.unlink(ballast)
        assert send(world.ports["held"], b"a", 100000).startswith(b"250")
        assert send(world.ports["held"], b"jail", 60000).startswith(b"250")
        assert len(os.listdir(small_disk + "/jail/new")) == 1 and not os.listdir(small_disk + "/jail/tmp")
        world.sinks[0].taken.clear()
        wrong = [w for w in world.load(10, 2) if "is there as []" not in w]  # what is in quarantine is not in the books
    finally:
        ended = world.end()
    assert not wrong, "\n".join(wrong[:20])
    assert not ended, ended


def send(port, sender, size):
    """The last reply."""
    c = Talker(port)
    c.hello()
    try:
        assert c.begin(b"%s@x.test" % sender).startswith(b"354")
        c.sock.sendall(b"X-Name: disk\r\nSubject: x\r\n\r\n" + b"0123456789 text\r\n" * (size // 17) + b".\r\n")
        return c.reply()
    finally:
        c.close()


def test_files_that_may_not_grow_are_a_full_disk_and_no_signal_kills_us():
    """ulimit -f: a write beyond it raises SIGXFSZ, which kills whoever does not ignore it."""
    world = World(launcher=["/bin/sh", "-c", 'ulimit -f 128; exec "$@"', "sh"])  # 64 or 128 KiB
    world.gateway.start()
    try:
        assert send(world.ports["held"], b"a", 400000).startswith(b"452 4.3.1")
        assert send(world.ports["held"], b"a", 3000).startswith(b"250")
    finally:
        ended = world.end()
    assert not ended, ended


def test_a_log_that_cannot_be_written_keeps_no_mail_waiting():
    world = World()
    with open("/dev/full", "wb") as full:
        process = world.gateway.process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], stdout=full, stderr=full)
    try:
        deadline = time.monotonic() + 20 * SLOW
        while True:
            try:
                assert send(world.ports["held"], b"a", 30000).startswith(b"250")
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        for _ in range(50):
            assert send(world.ports["plain"], b"a", 1000).startswith(b"250")
    finally:
        ended = world.end()
    assert not ended, ended


# ---- the clock

class Clock:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-clock-")
        self.shim, self.path = self.folder + "/clock.so", self.folder + "/offset"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", HERE + "/clock.c", "-o", self.shim, "-ldl"], check=True)
        self.set(0)

    def set(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:
            f.write(struct.pack("q", seconds))

    def env(self):
        return {"LD_PRELOAD": self.shim, "CLOCK_OFFSET": self.path,
                "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}


JUMPS = [3600, -86400 * 365 * 20, 86400 * 365 * 10] + ([-3600, 0, -1, 86400] if SECONDS > 4 else [])


@pytest.mark.skipif("tsan" in SLUICE, reason="its runtime wants to come first")
def test_a_clock_that_jumps_disturbs_no_mail_and_no_count():
    clock, sink, port = Clock(), Sink(), free_port()
    chain = 'filter "ratelimit" { by = "from", count = "messages", limit = 3, window = "1s" }, filter "s.lua" {}'
    script = 'local st = store()\nfunction on.mail(s, m, from) sleep "5ms" st:set("k", "v", "1h") end\n' \
             'function on.rcpt(s, m, to) if st:get("k") ~= "v" then return defer "451 4.3.0 forgotten" end end\n'
    gateway = Gateway(configuration(port, sink.port, chain=chain), files={"s.lua": script}, env=clock.env()).start()
    over, wrong, sent = threading.Event(), [], []

    def client(number):
        try:
            while not over.is_set():
                c = Talker(port)
                c.sock.settimeout(20 * SLOW)
                c.hello()
                assert c.begin(b"%d-%d@x.test" % (number, len(sent))).startswith(b"354")
                time.sleep(0.01)
                began = time.monotonic()
                reply = c.say(b"Subject: x\r\n\r\nx\r\n.")
                assert reply.startswith(b"250") and time.monotonic() - began < 2 * SLOW, reply
                sent.append(number)
                c.close()
        except Exception as e:  # noqa: BLE001
            wrong.append(repr(e))
    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(4)]
    for t in threads:
        t.start()
    try:
        for jump in JUMPS:
            clock.set(jump)
            time.sleep(0.3)
            assert len(limited(port, jump, 5)) == 3, "%d: the limit does not hold" % jump
            clock.set(jump - 7200)  # set back while it counts: whoever was at the limit is let in again in time
            time.sleep(1.4)
            assert len(limited(port, jump, 1)) == 1, "%d: still limited behind the window" % jump
            clock.set(jump)
    finally:
        over.set()
        for t in threads:
            t.join(30 * SLOW)
        sink.close()
        log = gateway.log()
        ended = gateway.stop()
    assert not wrong, (wrong[:5], log[-2000:])
    assert not ended, ended
    years = {int(y) for y in re.findall(r"^ts=(\d+)-", log, re.M)}
    assert max(years) - min(years) >= 29, years  # it was set, and the log says so
    assert len(sent) > 20


def limited(port, who, n):
    """Those of n messages of one who is counted that pass MAIL."""
    c = Talker(port)
    c.hello()
    passed = []
    for _ in range(n):
        if c.say(b"MAIL FROM:<counted%d@x.test>" % who).startswith(b"250"):
            passed.append(1)
            assert c.say(b"RCPT TO:<b@y.test>").startswith(b"250")
            assert c.say(b"RSET").startswith(b"250")
    c.close()
    return passed
