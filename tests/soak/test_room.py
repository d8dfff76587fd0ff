"""At the limit of connections and at the limit of descriptors clients wait in the kernel's queue: nobody is refused, reset or told to
go away, across workers and reloads; and when room is there again, everybody is served."""
import re
import resource
import socket
import struct
import threading
import time

import pytest
from gateway import SLOW, Gateway, free_port, rewrite
from sink import Sink, Talker, configuration


class World:
    def __init__(self, most, workers, **kw):
        self.sink, self.port, self.workers = Sink(), free_port(), workers
        self.sink.commands = None
        self.lock, self.inside, self.most = threading.Lock(), 0, 0  # guests between greeting and QUIT
        self.gateway = Gateway(self.text(most), **kw).start()

    def text(self, most):
        text = 'control "control"\nlimits { connections = %d, connections_per_client = 0 }\n' % most + configuration(self.port, self.sink.port)
        return re.sub(r"workers\(\d+\)", "workers(%d)" % self.workers, text)

    def sessions(self):
        code, out, err = self.gateway.ask("status")
        assert code == 0, err
        return int(re.search(r"(\d+) sessions? of ", out).group(1))


@pytest.fixture
def world():
    made = []

    def make(*a, **kw):
        made.append(World(*a, **kw))
        return made[-1]
    yield make
    for w in made:
        w.sink.close()
        assert w.gateway.stop() == ""


class Guest(threading.Thread):
    """Connects, and when it is served sends one message. What went wrong is in `wrong`."""

    def __init__(self, world, stay=0.0, start=None):
        super().__init__(daemon=True)
        self.world, self.stay, self.gate, self.wrong, self.served = world, stay, start, "not served", False

    def run(self):
        try:
            if self.gate:
                self.gate.wait()
            c = Talker(self.world.port)
            c.sock.settimeout(60 * SLOW)
            c.hello()
            self.served = True
            with self.world.lock:
                self.world.inside += 1
                self.world.most = max(self.world.most, self.world.inside)
            time.sleep(self.stay)
            for reply, code in ((c.begin, b"354"), (lambda: c.say(b"Subject: x\r\n\r\nx\r\n."), b"250"), (lambda: c.say(b"QUIT"), b"221")):
                if code == b"221":
                    with self.world.lock:
                        self.world.inside -= 1
                heard = reply()
                if not heard.startswith(code):
                    raise ConnectionError(heard)
            self.wrong = ""
        except Exception as e:  # noqa: BLE001: whatever it is, it should not have happened
            self.wrong = repr(e)


def flood(world, n, stay):
    gate = threading.Event()
    guests = [Guest(world, stay, gate) for _ in range(n)]
    for g in guests:
        g.start()
    gate.set()
    return guests


def everybody_is_served(guests):
    for g in guests:
        g.join(60 * SLOW)
    wrong = [g.wrong for g in guests if g.wrong]
    assert not wrong, (len(wrong), wrong[:5], guests[0].world.gateway.log()[:1500], guests[0].world.gateway.log()[-2500:])


def test_a_flood_over_the_limit_is_served_in_turn_by_several_workers_across_reloads(world):
    w = world(10, 4)
    guests = flood(w, 150, 0.1)
    while any(g.is_alive() for g in guests):
        w.sessions()
        rewrite(w.gateway, w.text(10))
        assert w.gateway.ask("reload")[0] == 0
    everybody_is_served(guests)
    assert 5 <= w.most <= 10, w.most  # at one time; what status says is counted worker by worker
    assert len(w.sink.messages) == 150


def test_who_waits_comes_in_when_a_reload_makes_room_and_waits_when_it_takes_room_away(world):
    w = world(3, 2)
    there = [Talker(w.port) for _ in range(3)]
    for c in there:
        c.hello()
    waiting = flood(w, 6, 0)
    time.sleep(0.5)
    assert w.sessions() == 3 and not any(g.served for g in waiting)
    rewrite(w.gateway, w.text(50))
    assert w.gateway.ask("reload")[0] == 0
    everybody_is_served(waiting)
    rewrite(w.gateway, w.text(2))
    assert w.gateway.ask("reload")[0] == 0
    waiting = flood(w, 4, 0)
    time.sleep(0.5)
    assert not any(g.served for g in waiting)
    for c in there:  # who is there already is not asked to leave
        assert c.begin().startswith(b"354") and c.say(b"Subject: x\r\n\r\nx\r\n.").startswith(b"250")
        assert c.say(b"QUIT").startswith(b"221")
    everybody_is_served(waiting)


def test_more_clients_than_descriptors_wait_and_nobody_is_reset(world):
    w = world(10000, 2, limit=(resource.RLIMIT_NOFILE, 220))
    guests = flood(w, 300, 1)
    deadline = time.monotonic() + 20 * SLOW
    while "new ones wait" not in w.gateway.log():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sum(g.served for g in guests) < 300
    assert w.gateway.ask("reload")[0] == 0  # there is room to read a configuration
    everybody_is_served(guests)
    after = flood(w, 20, 0)
    everybody_is_served(after)
    assert "Too many open files" not in w.gateway.log()


def test_idle_clients_over_the_descriptors_keep_others_waiting_only_while_they_are_there(world):
    w = world(10000, 2, limit=(resource.RLIMIT_NOFILE, 220))
    idle = [socket.create_connection(("127.0.0.1", w.port)) for _ in range(260)]
    time.sleep(1)
    guests = flood(w, 10, 0)
    time.sleep(0.5)
    for s in idle:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    everybody_is_served(guests)
