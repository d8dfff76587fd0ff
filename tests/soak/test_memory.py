"""Promise 4, bounded: memory stays flat whatever is sent, however slowly it is taken."""
import hashlib
import os
import socket
import threading
import time

import pytest
from gateway import Gateway, free_port, sanitized
from sink import Sink, Talker, configuration

LONG = os.environ.get("SLUICE_SOAK") == "long"  # the whole 10^6 and 100,000
MIB = 1024  # KiB


@pytest.fixture
def world():
    made = []

    def make(rate=None, **conf):
        sink = Sink(rate)
        sink.commands = None
        port = free_port()
        gateway = Gateway(configuration(port, sink.port, **conf)).start()
        made.append((gateway, sink))
        return gateway, sink, port
    yield make
    for gateway, sink in made:
        sink.close()
        assert gateway.stop() == ""


def send_big(port, gateway, total, pieces):
    c = Talker(port)
    c.hello()
    assert c.begin().startswith(b"354")
    before = peak = gateway.rss()
    digest, sent = hashlib.sha256(), 0
    for piece in pieces:
        c.sock.sendall(piece)
        digest.update(piece)
        sent += len(piece)
        if sent % (1 << 20) < len(piece):
            peak = max(peak, gateway.rss())
        if sent >= total and piece.endswith(b"\n"):
            break
    assert c.say(b".").startswith(b"250")
    return digest.hexdigest(), max(peak, gateway.rss()) - before


def test_a_message_of_200_mib_through_a_slow_backend_grows_memory_by_less_than_32_mib(world):
    gateway, sink, port = world(rate=60 << 20, listen='limits = { size = "1G" }')
    block = (b"0123456789" * 7 + b"abcdef\r\n") * 840

    def pieces():
        yield b"Subject: big\r\n\r\n"
        while True:
            yield block
    digest, growth = send_big(port, gateway, 200 << 20, pieces())
    assert sink.messages[0][0] == digest
    assert growth < 32 * MIB


def test_one_octet_segments_against_a_stalled_backend_grow_memory_by_less_than_32_mib(world):
    gateway, sink, port = world(rate=20 << 10)
    line = b"x" * 98 + b"\r\n"

    def pieces():
        yield b"Subject: small\r\n\r\n"
        while True:
            for octet in line:
                yield bytes([octet])
    digest, growth = send_big(port, gateway, 400 << 10, pieces())
    assert sink.messages[0][0] == digest
    assert growth < 32 * MIB


def test_a_million_cheap_commands_on_one_connection_leave_memory_flat(world):
    gateway, _, port = world(listen="limits = { junk = 0 }")
    c = Talker(port)
    c.hello()
    rounds = 200 if LONG else 20
    batch = b"NOOP\r\nRSET\r\n" * 2500

    def go(n):
        for _ in range(n):
            threading.Thread(target=c.sock.sendall, args=(batch,), daemon=True).start()
            for _ in range(5000):
                assert c.file.readline().startswith(b"250")
            for _ in range(5000 if LONG else 4):
                assert c.say(b"EHLO " + b"name" * 20).startswith(b"250")
    go(rounds // 10)
    before = gateway.rss()
    go(rounds)
    assert gateway.rss() - before < (8 if sanitized() else 1) * MIB


class Mute(Sink):
    """Answers all but RCPT."""
    def talk(self, sock, file):
        sock.sendall(b"220 sink\r\n")
        for line in file:
            if line[:4] == b"EHLO":
                sock.sendall(b"250-sink\r\n250-PIPELINING\r\n250 DSN\r\n")
            elif line[:4] != b"RCPT":
                sock.sendall(b"250 ok\r\n")


def test_octets_behind_a_refused_rcpt_that_waits_for_its_turn_leave_memory_flat():
    sink, port = Mute(), free_port()
    gateway = Gateway(configuration(port, sink.port)).start()
    c = Talker(port)
    c.hello()
    assert c.say(b"MAIL FROM:<a@x.test>").startswith(b"250")
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.sock.sendall(b"RCPT TO:<1@y.test>\r\nRCPT TO:<" + b"a" * 60 + b"@y.test> ORCPT=rfc822;" + b"x" * 200 + b" FOO=1\r\n")
    time.sleep(0.5)
    before = gateway.rss()
    for _ in range(8000):
        c.sock.sendall(b"N")
        time.sleep(0.0003)
    assert gateway.rss() - before < (4 if sanitized() else 1) * MIB
    c.sock.close()
    gateway.process.kill()  # it would wait for the backend's word
    gateway.process.wait()
    sink.close()


FORWARDED = b"XFORWARD NAME=first.test ADDR=192.0.2.%d PORT=2101\r\nXFORWARD HELO=%s PROTO=SMTP IDENT=Q%d SOURCE=LOCAL\r\nMAIL FROM:<a@x.test>\r\nRSET\r\n"


def test_a_million_clients_named_by_xforward_on_one_connection_leave_memory_flat(world):
    gateway, _, port = world(listen='xforward = { "127.0.0.1" }, limits = { junk = 0, messages = 0 }')
    c = Talker(port)
    c.hello()

    def go(n):
        for i in range(n // 500):
            batch = b"".join(FORWARDED % (k % 250, b"h" * (1 + k % 200), k) for k in range(500 * i, 500 * i + 500))
            threading.Thread(target=c.sock.sendall, args=(batch,), daemon=True).start()
            for _ in range(2000):
                assert c.file.readline().startswith(b"250")
    go(5000)
    before = gateway.rss()
    go(1000000 if LONG else 20000)
    assert gateway.rss() - before < (8 if sanitized() else 1) * MIB


def test_a_note_made_anew_by_each_xclient_leaves_memory_flat():
    sink, port = Sink(), free_port()
    text = configuration(port, sink.port, chain='filter "n.lua" { }', listen='xclient = { "127.0.0.1" }, limits = { junk = 0 }')
    gateway = Gateway(text, files={"n.lua": "function on.connect(s) return act { action = 'tag', text = tostring(s.ip) } end\n"}).start()
    c = Talker(port)
    c.hello()

    def go(n):
        for i in range(n):
            assert c.say(b"XCLIENT ADDR=192.0.2.%d" % (i % 250)).startswith(b"220")
    go(1000)
    before = gateway.rss()
    go(4000)
    growth = gateway.rss() - before
    c.sock.close()
    assert gateway.stop() == ""
    sink.close()
    assert growth < (4 if sanitized() else 1) * MIB


def test_many_messages_on_one_connection_leave_memory_flat(world):
    gateway, sink, port = world()
    c = Talker(port)
    c.hello()
    message = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"

    def go(n):
        for _ in range(n):
            c.sock.sendall(message)
            for code in (b"250", b"250", b"354"):
                assert c.reply().startswith(code)
            c.sock.sendall(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            assert c.reply().startswith(b"250")
    n = 100000 if LONG else 5000
    go(n // 10)
    before = gateway.rss()
    go(n)
    assert gateway.rss() - before < (16 if sanitized() else 1) * MIB


def test_replies_nobody_reads_stop_the_reading_of_commands(world):
    gateway, _, port = world(listen='limits = { junk = 0 }, timeouts = { write = "2s" }')
    c = Talker(port)
    c.hello()
    before = gateway.rss()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.sock.settimeout(8)
    try:
        for _ in range(4000):
            c.sock.sendall(b"NOOP\r\n" * 1000)
    except OSError:
        pass
    assert gateway.rss() - before < 16 * MIB
    deadline = time.monotonic() + 10
    while "does not read" not in gateway.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "does not read" in gateway.log()


@pytest.mark.parametrize("where", ["command", "field", "body"])
def test_a_line_of_10_mib_without_an_end_is_bounded(world, where):
    gateway, sink, port = world()
    c = Talker(port)
    c.hello()
    before = gateway.rss()
    long = b"x" * (10 << 20)
    if where == "command":
        c.sock.sendall(long)
        assert gateway.rss() - before < 8 * MIB
        assert c.say(b"").startswith(b"500")
        assert c.say(b"NOOP").startswith(b"250")
        return
    assert c.begin().startswith(b"354")
    c.sock.sendall((b"Long: " if where == "field" else b"Subject: x\r\n\r\n") + long)
    assert gateway.rss() - before < 24 * MIB
    reply = c.say(b"\r\n.")
    assert reply.startswith(b"552" if where == "field" else b"250"), reply
    if where == "body":
        assert sink.messages[0][1] == len(long) + len(b"Subject: x\r\n\r\n\r\n")


def test_a_hundred_thousand_fields_are_refused_in_good_time(world):
    gateway, _, port = world()
    c = Talker(port)
    c.hello()
    assert c.begin().startswith(b"354")
    began = time.monotonic()
    c.sock.sendall(b"X-A: b\r\n" * 100000 + b"\r\n")
    assert c.say(b".").startswith(b"552")
    assert time.monotonic() - began < 20


def test_a_thousand_pipelined_rcpts_are_all_answered(world):
    gateway, _, port = world()
    c = Talker(port)
    c.hello()
    c.sock.sendall(b"MAIL FROM:<a@x.test>\r\n" + b"".join(b"RCPT TO:<%d@y.test>\r\n" % i for i in range(1000)))
    assert sum(c.reply().startswith(b"250") for _ in range(1001)) == 1001
    assert c.say(b"RCPT TO:<more@y.test>").startswith(b"452")


def test_two_thousand_idle_connections_cost_little(world):
    gateway, _, port = world(listen='limits = { connections_per_client = 0 }')
    before = gateway.rss()
    idle = []
    for _ in range(2000):
        c = Talker(port)
        c.hello()
        idle.append(c)
    per = (gateway.rss() - before) / 2000
    c = Talker(port)
    c.hello()
    assert c.begin().startswith(b"354")
    assert c.say(b"Subject: x\r\n\r\n.").startswith(b"250")
    assert per < (40 if sanitized() else 6), "%.1f KiB each" % per


def test_a_worker_short_of_memory_defers_new_mail_and_finishes_what_it_has(world):
    gateway, sink, port = world(rate=2 << 20, top='limits { memory = "4M", connections_per_client = 0 }')
    talkers = [Talker(port) for _ in range(60)]
    for c in talkers:
        c.hello()
    began = [c for c in talkers if c.begin().startswith(b"354")]
    block = b"Subject: x\r\n\r\n" + (b"y" * 98 + b"\r\n") * 4000
    before = gateway.rss()

    def send(c, heard):
        c.sock.sendall(block)
        heard.append(c.say(b"."))
    heard = []
    threads = [threading.Thread(target=send, args=(c, heard), daemon=True) for c in began]
    for t in threads:
        t.start()
    peak = before
    while any(t.is_alive() for t in threads):
        peak = max(peak, gateway.rss())
        time.sleep(0.05)
    assert len(heard) == len(began) and all(h.startswith(b"250") for h in heard)
    assert peak - before < (64 if sanitized() else 16) * MIB
