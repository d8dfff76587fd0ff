"""Promise 1 under random loss: what a client heard 250 for is at the backend, whole, and as often as it was sent; a message that was
never acknowledged may be there at most once for each time our end may have been said."""
import hashlib
import os
import queue
import random
import threading
import time

import pytest
from gateway import Gateway, free_port
from sink import Sink, Talker, configuration

MESSAGES = int(os.environ.get("SLUICE_SOAK_MESSAGES", "500"))
CLIENTS = 25


class Counting(Sink):
    """Knows each message by its first field: how often it was taken, and with which digest."""

    def __init__(self, **kw):
        super().__init__(**kw)
        self.contents = []

    def taken(self):
        seen = {}
        with self.lock:
            for octets in self.contents:
                name = octets.split(b"\r\n", 1)[0]
                seen.setdefault(name, []).append(hashlib.sha256(octets).hexdigest())
        return seen


def make(number, rng):
    size = rng.choice([10, 300, 3000, 3000, 20000, 150000])
    lines, octets = [b"X-Number: %d" % number, b"Subject: soak", b""], 0
    while octets < size:
        line = rng.choice([b"", b".", b"..", b"." * 70, b"text " * rng.randrange(20), bytes(rng.choice(range(128, 256)) for _ in range(30))])
        lines.append(line)
        octets += len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


def stuffed(octets):
    return b"\r\n".join(b"." + l if l.startswith(b".") else l for l in octets.split(b"\r\n"))


class Client(threading.Thread):
    def __init__(self, port, work, seed, drop):
        super().__init__(daemon=True)
        self.port, self.work, self.random, self.drop = port, work, random.Random(seed), drop
        self.talker, self.outcome, self.wrong = None, {}, []

    def run(self):
        while True:
            try:
                number, octets = self.work.get_nowait()
            except queue.Empty:
                break
            try:
                self.outcome[number] = self.send(octets)
            except (OSError, ConnectionError) as e:
                self.wrong.append("%d: %r" % (number, e))
                self.outcome[number] = "lost"
                self.talker = None
        if self.talker:
            self.talker.close()

    def send(self, octets):
        """250, refused, left (before the end), gone (after it, without the reply)."""
        if not self.talker:
            self.talker = Talker(self.port)
            self.talker.hello()
        t = self.talker
        reply = t.begin()
        if not reply.startswith(b"354"):
            assert reply[:1] == b"4", reply
            assert t.say(b"RSET").startswith(b"250")
            return "refused"
        wire = stuffed(octets)
        if self.random.random() < self.drop:  # leaves amid the content
            t.sock.sendall(wire[:self.random.randrange(len(wire))])
            t.close()
            self.talker = None
            return "left"
        t.sock.sendall(wire + b".\r\n")
        if self.random.random() < self.drop:
            time.sleep(self.random.random() * 0.05)
            t.close()
            self.talker = None
            return "gone"
        reply = t.reply()
        if reply.startswith(b"250"):
            return "250"
        assert reply[:1] == b"4", reply
        return "refused"


@pytest.mark.parametrize("pool", [0, 16])
def test_what_was_acknowledged_is_there_exactly_once(pool):
    sink = Counting(drop=0.03, seed=7)
    port = free_port()
    gateway = Gateway(configuration(port, sink.port, backend="pool = %d" % pool,
                                    listen="limits = { connections_per_client = 0, errors = 100000 }")).start()
    rng = random.Random(11)
    messages = {n: make(n, rng) for n in range(MESSAGES)}
    work = queue.Queue()
    for item in messages.items():
        work.put(item)
    clients = [Client(port, work, seed, 0.08) for seed in range(CLIENTS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join(120)
        assert not c.is_alive(), "a client still waits"
    time.sleep(1)
    taken, outcome = sink.taken(), {}
    for c in clients:
        outcome.update(c.outcome)
        assert not c.wrong, c.wrong
    sink.close()
    log = gateway.log()
    wrong = gateway.stop()
    assert not wrong, wrong
    check(messages, outcome, taken)
    assert sum(v == "250" for v in outcome.values()) > MESSAGES // 2
    assert log.count("verdict=forwarded") == sum(len(t) for t in taken.values()), "the log knows each one"


def check(messages, outcome, taken):
    assert set(outcome) == set(messages)
    for number, octets in messages.items():
        copies = taken.get(b"X-Number: %d" % number, [])
        digest = hashlib.sha256(octets).hexdigest()
        assert all(c == digest for c in copies), "message %d is not whole" % number
        how = outcome[number]
        assert how != "250" or len(copies) == 1, "%d was acknowledged and is there %d times" % (number, len(copies))
        assert how != "left" or not copies, "%d was left by its client and is there" % number
        assert len(copies) <= 1, "%d is there %d times" % (number, len(copies))
