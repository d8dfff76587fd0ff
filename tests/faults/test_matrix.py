"""The backend, the DNS and a service that a filter dials: each killed, hung, slowed, and made to talk nonsense at every stage. One table
each: what the client may hear, and within which time; the session after it always works. Connections are pooled where they can be: what
a bad session leaves behind must not reach the next one. (tests/dialog/test_backend_faults.py has more kinds of nonsense, without a pool.)"""
import os
import socket
import ssl
import struct
import threading
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port
from service import Service, module
from sink import Talker, reset, stop_listening

WAIT = 0.4  # every patience of the gateway, in seconds
TIMEOUTS = ", ".join('%s = "400ms"' % t for t in ("banner", "helo", "mail", "rcpt", "data_reply", "block", "end_reply")) + ', end_by = "300ms"'


def configuration(port, backend, chain="", top="", options=""):
    return ('hostname "mx.test"\nworkers(1)\n%s\ntimeouts { connect = "400ms", %s }\n'
            'backend "b" { "127.0.0.1:%d", pool = 4, health = 0, fall = 100, wait = "400ms", %s }\nchain "c" { %s }\n'
            'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false, timeouts = { %s } }\n'
            % (top, TIMEOUTS, backend, options, chain, port, TIMEOUTS))


class Backend:
    """A backend that fails at `stage` in `way`, both None: well. Stages: connect banner ehlo starttls handshake secure xclient mail rcpt
    data content end quit idle (secure: EHLO within TLS)."""

    def __init__(self, tls=False):
        self.stage = self.way = None
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate() + "/cert.pem", certificate() + "/key.pem")
        self.taken, self.socks, self.port = 0, [], None
        self.up()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port or 0))
        self.port = self.listener.getsockname()[1]
        self.listener.listen(64)
        threading.Thread(target=self.run, args=(self.listener,), daemon=True).start()

    def down(self):
        """As if its process had been killed."""
        stop_listening(self.listener)
        for s in self.socks:
            reset(s)
        self.socks = []

    def full(self):
        """Nobody accepts, and the queue of the kernel is full: a dial gets no answer."""
        self.down()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(0)
        self.socks = [socket.socket() for _ in range(3)]
        for s in self.socks:
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", self.port))
        time.sleep(0.05)

    def fail(self, stage, way):
        if stage == "connect":
            {"killed": self.down, "hangs": self.full}[way]()
        elif stage == "idle":
            for s in self.socks:
                if way == "killed":
                    reset(s)
                elif s.fileno() >= 0:
                    s.sendall({"nonsense": b"hello?\r\n", "421": b"421 4.4.2 idle\r\n"}[way])
            time.sleep(0.05)
        self.stage, self.way = stage, way

    def heal(self):
        if self.stage == "connect" or self.way == "killed":
            self.down()
            self.up()
        self.stage = self.way = None

    def run(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socks.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            self.talk(sock, sock.makefile("rb"))
        except (OSError, EOFError, ValueError):
            pass
        finally:
            sock.close()

    def answer(self, sock, stage, words):
        """Says it, or fails. EOFError: that was it."""
        if self.stage != stage:
            return sock.sendall(words)
        if self.way == "slow":
            for i in range(len(words)):
                sock.sendall(words[i:i + 1])
                time.sleep(0.002)
            return None
        if self.way == "too slow":  # in the middle of it
            sock.sendall(words[:4])
            time.sleep(WAIT * 3)
            return sock.sendall(words[4:])
        if self.way == "killed":
            self.down()
        elif self.way == "drops":
            sock.close()
        elif self.way == "resets":
            reset(sock)
        elif self.way == "hangs":
            time.sleep(WAIT * 4)
        else:
            sock.sendall({"nonsense": b"\x16\x03\x01 what is this\r\n", "421": b"421 4.3.2 going down\r\n", "floods": b"250-x\r\n" * 20000}[self.way])
            time.sleep(WAIT * 2)
        raise EOFError

    def talk(self, sock, file):
        self.answer(sock, "banner", b"220 b.test\r\n")
        secure = False
        while True:
            verb = file.readline()[:4].upper()
            if not verb:
                return
            if verb == b"EHLO":
                self.answer(sock, "secure" if secure else "ehlo", b"250-b.test\r\n250-XCLIENT ADDR NAME PROTO HELO\r\n%s250 PIPELINING\r\n"
                            % (b"250-STARTTLS\r\n" if self.context and not secure else b""))
            elif verb == b"XCLI":
                self.answer(sock, "xclient", b"220 b.test\r\n")
            elif verb == b"STAR":
                self.answer(sock, "starttls", b"220 go\r\n")
                if self.stage == "handshake" and self.way != "slow":
                    self.answer(sock, "handshake", b"")
                sock, secure = self.context.wrap_socket(sock, server_side=True), True
                self.socks.append(sock)
                file = sock.makefile("rb")
            elif verb == b"DATA":
                self.answer(sock, "data", b"354 go\r\n")
                file.readline()
                if self.stage == "content" and self.way != "slow":
                    self.answer(sock, "content", b"")
                while True:
                    line = file.readline()
                    if self.stage == "content" and self.way == "slow":
                        time.sleep(0.0005)
                    if not line:
                        return
                    if line == b".\r\n":
                        break
                self.taken += self.stage != "end" or self.way == "slow"
                self.answer(sock, "end", b"250 2.0.0 Ok: queued as B\r\n")
            elif verb in (b"MAIL", b"RCPT", b"QUIT"):
                self.answer(sock, verb.decode().lower(), b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            else:
                sock.sendall(b"250 ok\r\n")


def session(port, octets=3000):
    """(code of the last reply that counts, where, seconds)"""
    began = time.monotonic()
    c = Talker(port)
    c.sock.settimeout(20 * SLOW)
    try:
        assert c.reply().startswith(b"220") and c.say(b"EHLO client.test").startswith(b"250")
        for line in (b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"DATA"):
            reply = c.say(line)
            if reply[:1] not in b"23":
                return reply, line[:4], time.monotonic() - began
        c.sock.sendall(b"Subject: x\r\n\r\n" + b"0123456789 text\r\n" * (octets // 17) + b".\r\n")
        return c.reply(), b".", time.monotonic() - began
    finally:
        try:
            c.sock.sendall(b"QUIT\r\n")
        except OSError:
            pass
        c.file.close()
        c.close()


def judge(cell, heard, expected, bound, wrong):
    reply, where, took = heard
    if reply[:1].decode() not in expected:
        wrong.append("%s: heard %r at %s instead of %s" % (cell, reply, where, expected))
    if took > bound * max(1, SLOW):
        wrong.append("%s: took %.2f s" % (cell, took))


# stage: {way: what the client may hear}; "4" is a 4yz, "2" the backend's own 250
WAYS = {"killed": "4", "drops": "4", "resets": "4", "hangs": "4", "slow": "2", "too slow": "4", "nonsense": "4", "421": "4", "floods": "4"}
AT = {
    "connect": {"killed": "4", "hangs": "4"},
    "banner": WAYS, "ehlo": WAYS, "mail": WAYS, "rcpt": WAYS, "data": WAYS,
    "content": dict(WAYS, **{"slow": "24", "too slow": "24"}),  # it may be too slow for end_by
    "end": WAYS,
    "starttls": WAYS, "handshake": dict(WAYS, **{"too slow": "2"}), "secure": WAYS, "xclient": WAYS,
    "quit": dict.fromkeys(WAYS, "2"),
    "idle": {"killed": "2", "nonsense": "2", "421": "2"},
}


@pytest.mark.parametrize("stage", AT)
def test_a_backend_that_fails_is_a_4yz_in_time_and_the_next_session_works(stage):
    backend, port, wrong = Backend(stage in ("starttls", "handshake", "secure")), free_port(), []
    options = 'tls = "opportunistic"' if backend.context else 'identity = "xclient"' if stage == "xclient" else ""
    gateway = Gateway(configuration(port, backend.port, options=options)).start()
    try:
        judge("first", session(port), "2", 3, wrong)  # the first look at it is over by then
        for way, expected in AT[stage].items():
            cell = "%s, %s" % (stage, way)
            if stage in ("banner", "ehlo", "starttls", "handshake", "secure", "xclient"):  # a connection that waits in the pool has passed them
                backend.down(), backend.up()
                time.sleep(0.05)
            elif stage != "connect":
                judge(cell + ", before", session(port), "2", 3, wrong)
            taken = backend.taken
            backend.fail(stage, way)
            heard = session(port, 600000 if stage == "content" else 3000)
            judge(cell, heard, expected, 3, wrong)
            if heard[0].startswith(b"2") and backend.taken != taken + 1:
                wrong.append("%s: acknowledged and not taken" % cell)
            backend.heal()
            judge(cell + ", after", session(port), "2", 3, wrong)
        log = gateway.log()
        uncertain = log.count("uncertain=1")
        if stage != "content":  # there our end may have been said into the kernel's buffers
            assert (uncertain > 0) == (stage == "end"), "%d are uncertain" % uncertain
    finally:
        backend.down()
        ended = gateway.stop()
    assert not wrong, "\n".join(wrong)
    assert not ended, ended


# ---- a service that a filter dials

SERVICE = {"killed": "4", "drops": "4", "resets": "4", "hangs": "4", "slow": "2", "half": "4", "nonsense": "4", "floods": "4", "empty": "4"}
ASKED = {
    "connect": dict(SERVICE, slow="24", twice="4", rejects="4"),  # HELLO unasked is an answer too early: of the next question
    "HI": dict(SERVICE, twice="4", rejects="4"),
    "MAIL": dict(SERVICE, twice="2", rejects="5"),
    "RCPT": dict(SERVICE, twice="2", rejects="5"),
    "BODY": dict(SERVICE, twice="2", rejects="5"),
    "END": dict(SERVICE, twice="2", rejects="5"),
    "pool": {"killed": "2", "resets": "2"},
}


@pytest.mark.parametrize("stage", ASKED)
def test_a_filters_service_that_fails_is_on_errors_4yz_and_the_next_session_works(stage):
    backend, service, port, wrong = Backend(), Service(), free_port(), []
    gateway = Gateway(configuration(port, backend.port, top='module "%s"' % module(),
                                    chain='filter "service" { "inet:127.0.0.1:%d", wait = "300ms", timeout = "600ms", message_timeout = "600ms" }'
                                          % service.port)).start()
    try:
        for way, expected in ASKED[stage].items():
            cell = "%s, %s" % (stage, way)
            judge(cell + ", before", session(port), "2", 3, wrong)
            if stage in ("connect", "pool") or way == "killed":
                service.hang_up(way == "killed" and stage != "pool")
                time.sleep(0.05)
            if way != "killed":
                service.fail(stage, way)
            taken = backend.taken
            heard = session(port, 3000000 if (stage, way) == ("BODY", "hangs") else 3000)
            judge(cell, heard, "4" if way == "killed" and stage != "pool" else expected, 4, wrong)
            if backend.taken - taken != heard[0].startswith(b"2"):
                wrong.append("%s: %d taken, heard %r" % (cell, backend.taken - taken, heard[0]))
            service.fail(None)
            service.come_back()
            judge(cell + ", after", session(port), "2", 3, wrong)
    finally:
        backend.down()
        service.close()
        log = gateway.log()
        ended = gateway.stop()
    assert not wrong, "\n".join(wrong) + "\n" + "\n".join(line for line in log.splitlines() if "msg id" not in line)[-3000:]
    assert not ended, ended


# ---- the DNS

class Resolver:
    """Answers TXT "yes" to everything, or fails in `way`."""

    def __init__(self):
        self.way, self.port = None, None
        self.up()

    def up(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", self.port or 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, args=(self.socket,), daemon=True).start()

    def down(self):
        self.socket.close()

    def serve(self, sock):
        while True:
            try:
                sock.settimeout(0.1)
                query, peer = sock.recvfrom(4096)
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            threading.Thread(target=self.answer, args=(sock, query, peer, self.way), daemon=True).start()

    def answer(self, sock, query, peer, way):
        end = query.index(b"\0", 12) + 5
        question, record = query[12:end], b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, 4) + b"\x03yes"
        head = lambda flags, answers, id=query[:2]: id + struct.pack(">HHHHH", flags, 1, answers, 0, 0)  # noqa: E731
        good = head(0x8180, 1) + question + record
        if way == "slow":
            time.sleep(0.15)
        if way in ("late", "hangs"):
            time.sleep(WAIT * 2)
            if way == "hangs":
                return
        packets = {
            "nonsense": b"\xff" * 40, "short": good[:7], "half": good[:-3], "other id": head(0x8180, 1, b"\x12\x34") + question + record,
            "other name": head(0x8180, 1) + b"\x05other\0\0\x10\0\x01" + record, "servfail": head(0x8182, 0) + question,
            "refuses": head(0x8185, 0) + question, "truncated": head(0x8380, 0) + question, "not an answer": query,
            "loop": head(0x8180, 1) + question + b"\xc0" + bytes([len(question) + 12]) + record[2:],
            "counts too much": head(0x8180, 60000) + question + record, "no such name": head(0x8183, 0) + question,
            "long text": head(0x8180, 1) + question + record[:-4] + b"\xffyes", "empty": b"",
        }
        try:
            sock.sendto(packets.get(way, good), peer)
        except (OSError, ValueError):
            pass


DNS = {"killed": "4", "hangs": "4", "slow": "2", "late": "4", "nonsense": "4", "short": "4", "half": "4", "other id": "4", "other name": "24",
       "servfail": "4", "refuses": "4", "truncated": "4", "not an answer": "4", "loop": "4", "counts too much": "4", "no such name": "5",
       "long text": "4", "empty": "4"}


def test_a_dns_that_fails_is_told_to_the_script_in_time_and_the_next_question_is_answered():
    backend, dns, port, wrong = Backend(), Resolver(), free_port(), []
    script = ('function on.rcpt(s, m, to)\n  local list, why = dns.txt("x.test", { timeout = "400ms" })\n'
              '  if list then return end\n  if why == "nxdomain" then return reject "550 5.1.8 no such domain" end\n'
              '  return defer("451 4.4.3 dns: %s", why)\nend\n')
    gateway = Gateway(configuration(port, backend.port, top='dns { servers = { "127.0.0.1:%d" } }' % dns.port, chain='filter "s.lua" {}'),
                      files={"s.lua": script}).start()
    try:
        for way, expected in DNS.items():
            dns.way = way
            if way == "killed":
                dns.down()
                time.sleep(0.2)
            judge(way, session(port), expected, 3, wrong)
            dns.way = None
            if way == "killed":
                dns.up()
            judge(way + ", after", session(port), "2", 3, wrong)
    finally:
        backend.down()
        dns.down()
        ended = gateway.stop()
    assert not wrong, "\n".join(wrong)
    assert not ended, ended


# ---- a crowd before a peer that hangs

CROWD = 120


def crowd(port):
    """What so many sessions at once have heard."""
    heard = []
    threads = [threading.Thread(target=lambda: heard.append(session(port)), daemon=True) for _ in range(CROWD)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30 * SLOW)
    return heard


@pytest.mark.parametrize("who", ["backend", "dns", "service"])
def test_a_crowd_before_a_peer_that_hangs_is_told_in_time_and_served_when_it_is_back(who):
    backend, dns, service, port, wrong = Backend(), Resolver(), Service(), free_port(), []
    script = ('function on.rcpt(s, m, to)\n  for i = 1, 3 do\n    local list, why = dns.txt("x" .. i .. "." .. s.id .. ".test", { timeout = "300ms" })\n'
              '    if not list then return defer("451 4.4.3 dns: %s", why) end\n  end\nend\n')
    chain = 'filter "s.lua" {}' if who == "dns" else \
            'filter "service" { "inet:127.0.0.1:%d", wait = "300ms" }' % service.port if who == "service" else ""
    gateway = Gateway(configuration(port, backend.port, chain=chain, options="connections = 5",
                                    top='limits { connections_per_client = 0 }\nmodule "%s"\ndns { servers = { "127.0.0.1:%d" } }' % (module(), dns.port)),
                      files={"s.lua": script}).start()
    try:
        judge("before", session(port), "2", 3, wrong)
        descriptors = len(os.listdir("/proc/%d/fd" % gateway.process.pid))
        for _ in range(1 if who == "service" else 2):
            if who == "backend":
                backend.fail("rcpt", "hangs")
            elif who == "dns":
                dns.way = "hangs"
            else:
                service.fail("RCPT", "hangs")
            heard = crowd(port)
            assert len(heard) == CROWD
            for h in heard:
                judge("meanwhile", h, "4", 5, wrong)
            backend.heal()
            dns.way = None
            service.fail(None)
            if who == "service":
                time.sleep(10.5)  # its circuit breaker
            judge("after", session(port), "2", 3, wrong)
        good = [h for h in crowd(port) if h[0].startswith(b"2")]
        assert len(good) >= (CROWD if who != "backend" else 5), len(good)
        deadline = time.monotonic() + 5 * SLOW
        while len(os.listdir("/proc/%d/fd" % gateway.process.pid)) > descriptors + 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(os.listdir("/proc/%d/fd" % gateway.process.pid)) <= descriptors + 20
    finally:
        backend.down()
        dns.down()
        service.close()
        ended = gateway.stop()
    assert not wrong, "\n".join(wrong[:10])
    assert not ended, ended
