"""Hostile clients by the thousand: normal ones keep being served, and memory and descriptors return to where they were.
In CI 1,000 of each kind for a moment; SLUICE_FAULTS=all: 10,000 where the limit of descriptors allows it, for 15 s, lines of 1 GiB."""
import os
import re
import resource
import statistics
import subprocess
import sys
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port, sanitized, wait_port
from sink import latencies

ALL = os.environ.get("SLUICE_FAULTS") == "all"
MANY = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 200) if ALL else 1000
SECONDS, LONG = (15, 1 << 30) if ALL else (0.7, 64 << 20)
# kind: (how many, listener, what the median latency of a message may grow to: factor, and seconds below which it is well)
KINDS = {
    "silent": (MANY, "plain", 2, 0.002), "drip": (MANY, "plain", 2, 0.003), "handshake": (MANY, "smtps", 2, 0.003),
    "commands": (MANY // 10, "plain", 0, 0.3), "pipelines": (MANY // 10, "plain", 0, 0.3), "slam": (0, "plain", 0, 0.1),
    "command": (4, "plain", 0, 0.1), "field": (4, "plain", 0, 0.1), "body": (4, "plain", 0, 0.1),
}


@pytest.fixture(scope="session")
def sink_binary(tmp_path_factory):
    """The sink of the bench: a backend in Python would be what floods of commands keep busy."""
    path = str(tmp_path_factory.mktemp("sink") / "sink")
    subprocess.run(["gcc", "-O2", os.path.join(os.path.dirname(os.path.dirname(__file__)), "bench", "sink.c"), "-o", path], check=True)
    return path


class World:
    def __init__(self, sink):
        self.ports = {"plain": free_port(), "smtps": free_port()}
        backend = free_port()
        self.sink = subprocess.Popen([sink, str(backend)], stdout=subprocess.DEVNULL)
        wait_port(backend)
        folder = certificate()
        self.gateway = Gateway(
            'hostname "mx.test"\nworkers(1)\ncontrol "control"\nlimits { connections = 15000, size = "2G" }\n'
            'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\nbackend "b" { "127.0.0.1:%d", pool = 4 }\n'
            'listen "plain" { "127.0.0.1:%d", backend = "b", tls = "t" }\nlisten "smtps" { "127.0.0.1:%d", backend = "b", tls = "t", implicit = true }\n'
            % (folder, folder, backend, self.ports["plain"], self.ports["smtps"])).start()

    def end(self):
        wrong = self.gateway.stop()
        self.sink.terminate()
        self.sink.wait()
        return wrong

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.gateway.process.pid))

    def messages(self, *much, **long):
        return latencies(self.ports["plain"], *much, **long)

    def memory(self, before):
        """Resident, once what a crowd has left has been given back: once a second that is looked at."""
        deadline = time.monotonic() + 4
        while self.gateway.rss() > before + (4 << 10) and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.gateway.rss()

    def settle(self, descriptors, seconds=20):
        """The descriptors that are left; comes back when they are as few as before."""
        deadline = time.monotonic() + seconds * SLOW
        while self.descriptors() > descriptors and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.descriptors()


def attack(world, kind, many, port):
    """(latencies meanwhile, connected, cut off, octets sent)"""
    process = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "attack.py"), kind, str(port), str(many), str(LONG)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        under = world.messages(seconds=SECONDS)
    finally:
        out, _ = process.communicate("end\n", timeout=120)
    return under, *(int(w) for w in out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_clients_do_not_keep_others_waiting_and_leave_nothing_behind(kind, sink_binary):
    many, where, factor, well = KINDS[kind]
    world = World(sink_binary)
    try:
        world.messages(50)
        usual = world.messages(150)
        before, descriptors = world.gateway.rss(), world.descriptors() + 4
        under, connected, cut, sent = attack(world, kind, many, world.ports[where])
        most = world.gateway.rss()
        assert world.settle(descriptors) <= descriptors, "%d descriptors, before %d" % (world.descriptors(), descriptors)
        first = world.memory(before)
        attack(world, kind, many, world.ports[where])
        assert world.settle(descriptors) <= descriptors, "%d descriptors, before %d" % (world.descriptors(), descriptors)
        after = world.memory(before)
        last = world.messages(50)
    finally:
        wrong = world.end()
    assert not wrong, wrong
    p50 = [statistics.median(t) * 1000 for t in (usual, under, last)]
    p99 = [sorted(t)[len(t) * 99 // 100] * 1000 for t in (usual, under)]
    print("\n%s, %d: p50 %.2f, %.2f, then %.2f ms; p99 %.2f, %.2f ms; %d messages meanwhile; %d connected, %d cut off, %d MiB sent; "
          "memory %d, %d, then %d and %d KiB" % (kind, many, *p50, *p99, len(under), connected, cut, sent >> 20, before, most, first, after))
    assert p50[1] <= max(factor * p50[0], well * 1000 * SLOW), "p50 %.2f ms, then %.2f ms" % tuple(p50[:2])
    assert connected >= many and (kind != "slam" or connected > 500)
    if not sanitized():
        assert max(first, after) - before < (24 if ALL else 12) << 10, "memory is kept: %d KiB, then %d and %d" % (before, first, after)


def test_renegotiation_is_refused_and_costs_nobody_else_anything(sink_binary):
    world, many = World(sink_binary), 20 if ALL else 5
    try:
        world.messages(20)
        before = world.descriptors() + 4
        clients = [subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % world.ports["plain"], "-starttls", "smtp", "-tls1_2",
                                     "-crlf"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(many)]
        time.sleep(0.5)
        for c in clients:
            c.stdin.write(b"R\n")
            c.stdin.flush()
        under = world.messages(seconds=max(1, SECONDS / 5))
        outs = [c.communicate(timeout=30)[0].decode(errors="replace") for c in clients]
        assert world.settle(before) <= before
    finally:
        wrong = world.end()
    assert not wrong, wrong
    assert statistics.median(under) < 0.1 * SLOW
    for out in outs:
        assert "RENEGOTIATING" in out, out
        assert re.search(r"no renegotiation|alert handshake|wrong|error|unexpected eof", out.split("RENEGOTIATING", 1)[1], re.I), out[-2000:]
        assert "250" not in out.split("RENEGOTIATING", 1)[1]
