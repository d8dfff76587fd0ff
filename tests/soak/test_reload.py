"""Change without loss: reloads, upgrades of the binary and other certificates while mail flows, and nobody is refused, cut off or lost.

Clients connect, send a few messages and leave, some of them in the middle; each that heard 250 must find its message at the backend,
and nothing but what the test itself breaks may go wrong."""
import hashlib
import os
import random
import shutil
import socket
import ssl
import threading
import time

import pytest
from gateway import SLOW, SLUICE, Gateway, certificate, free_port, rewrite, sanitized
from sink import Sink, Talker, configuration

CLIENTS = 60
SCRIPT = 'function on.headers(s, m) m.headers:add("X-Generation", "%d") end\nfunction on.rcpt(s, m, to) store():incr("all", 1, "1h") end\n'


class Traffic(threading.Thread):
    """One client after the other, until it is told to stop."""

    def __init__(self, number, world):
        super().__init__(daemon=True)
        self.number, self.world, self.random = number, world, random.Random(number)
        self.sent, self.left, self.wrong = {}, 0, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.session = None

    def run(self):
        while not self.world.over:
            try:
                self.visit()
            except Exception as e:  # noqa: BLE001: whatever it is, it should not have happened
                self.wrong.append("client %d: %s %r" % (self.number, type(e).__name__, e))
                if len(self.wrong) > 5:
                    return

    def expect(self, reply, code):
        if not reply.startswith(code):
            raise AssertionError("%r instead of %r" % (reply, code))

    def visit(self):
        c = Talker(self.world.port)
        self.expect(c.reply(), b"220")
        self.expect(c.say(b"EHLO client.test"), b"250")
        if self.number % 3 == 0:
            self.secure(c)
        for _ in range(self.random.randrange(1, 4)):
            time.sleep(self.random.random() * 0.2)
            if not self.message(c):
                return
        self.expect(c.say(b"QUIT"), b"221")
        c.sock.close()

    def secure(self, c):
        self.expect(c.say(b"STARTTLS"), b"220")
        c.sock = self.context.wrap_socket(c.sock, session=self.session)
        c.file = c.sock.makefile("rb")
        self.expect(c.say(b"EHLO client.test"), b"250")
        self.world.resumed += c.sock.session_reused
        self.session = c.sock.session

    def message(self, c):
        leaves = self.random.random() < 0.08  # in the middle of it
        name = b"%d-%d" % (self.number, len(self.sent) + self.left)
        body = b"X-Name: %s\r\nSubject: x\r\n\r\n%s" % (name, self.random.randbytes(20).hex().encode() + b"\r\n") * 1
        body += (b"text " * 12 + b"\r\n") * self.random.choice([1, 20, 400])
        self.expect(c.say(b"MAIL FROM:<a%d@x.test>" % self.number), b"250")
        self.expect(c.say(b"RCPT TO:<b@y.test>"), b"250")
        self.expect(c.say(b"DATA"), b"354")
        if leaves:
            c.sock.sendall(body[:len(body) // 2])
            self.left += 1
            c.sock.close()
            return False
        half = self.random.randrange(len(body))
        c.sock.sendall(body[:half])
        time.sleep(self.random.random() * 0.1)
        c.sock.sendall(body[half:])
        self.expect(c.say(b"."), b"250")
        self.sent[name] = hashlib.sha256(body).hexdigest()
        return True


class World:
    def __init__(self, folder):
        self.sink, self.port = Sink(), free_port()
        self.sink.commands, self.sink.contents = None, []
        self.binary = str(folder / "sluice")
        shutil.copy(SLUICE, self.binary)
        self.over, self.resumed, self.old = False, 0, []
        self.extra = [free_port(), free_port()]
        self.gateway = Gateway(self.text(0), files={"tag.lua": SCRIPT % 0}, binary=self.binary)
        os.mkdir(self.gateway.folder + "/live")
        self.certify("one.test")
        self.gateway.start()

    def text(self, n):
        extra = "".join(', "127.0.0.1:%d"' % p for i, p in enumerate(self.extra) if n >> i & 1)
        return ('control "control"\ntimeouts { drain = "30s" }\ntls "t" { certificate = "live" }\n'
                + configuration(self.port, self.sink.port, chain='filter "tag.lua" {}', listen='tls = "t"%s' % extra,
                                backend="pool = %d" % (n % 3)).replace("workers(1)", "workers(2)"))

    def certify(self, name):
        for file, source in (("fullchain.pem", "/cert.pem"), ("privkey.pem", "/key.pem")):
            path = self.gateway.folder + "/live/" + file
            shutil.copy(certificate(name) + source, path + ".new")
            os.rename(path + ".new", path)

    def ask(self, command):
        """(good, text) of the control socket, without starting a process for it."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60 * SLOW)
            s.connect(self.gateway.folder + "/control")
            s.sendall(command + b"\n")
            answer = b""
            while True:
                more = s.recv(65536)
                if not more:
                    return answer.startswith(b"ok\n"), answer.decode()
                answer += more

    def reload(self, n):
        if n % 10 == 5:
            rewrite(self.gateway, self.text(n) + "limits { recipients = -%d }\n" % n)
            good, text = self.ask(b"reload")
            assert not good and "sluice.lua:" in text and "recipients" in text, text
        with open(self.gateway.folder + "/tag.lua.new", "w") as f:
            f.write(SCRIPT % n)
        os.rename(self.gateway.folder + "/tag.lua.new", self.gateway.folder + "/tag.lua")
        rewrite(self.gateway, self.text(n))
        good, text = self.ask(b"reload")
        assert good, text

    def upgrade(self):
        shutil.copy(SLUICE, self.binary + ".new")
        os.rename(self.binary + ".new", self.binary)
        before = self.gateway.log().count(" runs; this one ends")
        good, text = self.ask(b"upgrade")
        assert good, text
        deadline = time.monotonic() + 20 * SLOW
        while self.gateway.log().count(" runs; this one ends") == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.old.append(self.gateway.follow())

    def end(self):
        self.over = True
        wrong = ""
        for process in self.old:
            try:
                wrong += "" if process.wait(60 * SLOW) == 0 else "an old process ended with %d\n" % process.returncode
            except Exception:  # noqa: BLE001
                process.kill()
                wrong += "an old process did not end\n"
        wrong += self.gateway.stop()
        self.sink.close()
        assert wrong == ""


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.end()


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def check(world, clients):
    world.over = True
    for c in clients:
        c.join(60 * SLOW)
        assert not c.is_alive()
    wrong = [w for c in clients for w in c.wrong]
    assert not wrong, "%d things went wrong:\n%s\n%s" % (len(wrong), "\n".join(wrong[:10]), world.gateway.log()[-3000:])
    sent = {name: digest for c in clients for name, digest in c.sent.items()}
    there = {}
    with world.sink.lock:
        for octets in world.sink.contents:
            lines = [line for line in octets.split(b"\r\n") if not line.startswith(b"X-Generation:")]
            name = next(line for line in lines if line.startswith(b"X-Name: "))[8:]
            there.setdefault(name, []).append(hashlib.sha256(b"\r\n".join(lines)).hexdigest())
    for name, digest in sent.items():
        assert there.get(name) == [digest], (name, there.get(name))
    assert set(there) == set(sent)  # and nothing of those that left
    return len(sent)


def test_100_reloads_and_5_new_binaries_under_load_lose_nothing_and_refuse_nobody(world):
    clients = [Traffic(i, world) for i in range(CLIENTS)]
    for c in clients:
        c.start()
    began = time.monotonic()
    for n in range(1, 101):
        world.reload(n)
        if n % 17 == 0:
            world.upgrade()
        if n % 25 == 0:
            world.certify("two.test" if n % 50 else "one.test")
        time.sleep(0.1)
    assert len(world.old) == 5
    took = time.monotonic() - began
    time.sleep(0.5)
    sent = check(world, clients)
    deadline = time.monotonic() + 20 * SLOW
    while descriptors(world.gateway.process.pid) > 64 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert descriptors(world.gateway.process.pid) <= 64  # nothing is handed on but what is meant to be
    assert sent > 300 and sum(c.left for c in clients) > 10 and world.resumed > 10, (sent, world.resumed)
    print("%d messages, %d clients left in the middle, %d handshakes resumed, %.1f s" % (sent, sum(c.left for c in clients), world.resumed, took))


def test_memory_and_descriptors_are_flat_after_100_reloads(world):
    clients = [Traffic(i, world) for i in range(8)]
    for c in clients:
        c.start()
    pid = world.gateway.process.pid
    for n in range(1, 41):
        world.reload(n * 4)
    time.sleep(1)
    rss, most = world.gateway.rss(), descriptors(pid)
    for n in range(41, 141):
        world.reload(n * 4)
    check(world, clients)
    deadline = time.monotonic() + 20 * SLOW
    while descriptors(pid) > 64 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert descriptors(pid) <= 64, (descriptors(pid), most)
    grown = world.gateway.rss() - rss
    assert sanitized() or grown < 4096, "%d KiB more after 100 reloads" % grown
    print("descriptors %d then %d, memory %+d KiB" % (most, descriptors(pid), grown))


def test_certificates_swapped_under_load_fail_no_handshake(world):
    clients = [Traffic(i * 3, world) for i in range(16)]  # those that use TLS
    for c in clients:
        c.start()
    for i in range(3):
        world.certify("two.test" if i % 2 == 0 else "one.test")
        deadline = time.monotonic() + 20 * SLOW
        while world.gateway.log().count("have been read again") <= i:
            assert time.monotonic() < deadline, world.gateway.log()[-2000:]
            time.sleep(0.05)
    assert check(world, clients) > 50
    assert "what was read before stays" not in world.gateway.log()
