"""Clients and backends behind a network that delays, chops, stalls and resets: nothing acknowledged is missing, nothing is there twice, and
where nothing is reset every message passes."""
import os
import ssl
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port
from mixed import SCRIPTS, Books, Mixed, chains, leftovers, listeners
from network import Network

SECONDS = 60 if os.environ.get("SLUICE_FAULTS") == "all" else 4
NETWORKS = {
    "far": {"delay": (0.01, 0.03)},
    "lossy": {"delay": (0.0, 0.005), "chop": 3000, "stall": 0.02, "stall_for": 0.25},
    "chopped": {"chop": 40},
    "broken": {"chop": 3000, "stall": 0.01, "reset": 0.01},
}


class World:
    over, pause, patience = False, 0.0, 60 * SLOW

    def __init__(self, kind):
        self.may_lose = self.uncertain = "reset" in NETWORKS[kind]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = certificate()
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        self.sinks = [Books(slow=0, can=("PIPELINING", "8BITMIME", "CHUNKING")), Books(slow=0, context=context, can=("PIPELINING",))]
        self.networks = [Network(s.port, seed, **NETWORKS[kind]) for seed, s in enumerate(self.sinks)]
        inner = {name: free_port() for name in ("plain", "held", "empty", "smtps")}
        conf = ('hostname "mx.test"\nworkers(2)\ncontrol "control"\nlimits { connections_per_client = 0, errors = 1000, min_rate = 0 }\n'
                'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\nbackend "b" { "127.0.0.1:%d", pool = 4, health = 0, fall = 100 }\n'
                'backend "t" { "127.0.0.1:%d", tls = "opportunistic", pool = 2, health = 0, fall = 100 }\nbackend "jail" { "127.0.0.1:%d" }\n%s%s' % (
                    folder, folder, *(n.port for n in self.networks), self.sinks[0].port, chains(), listeners(inner)))
        self.gateway = Gateway(conf, files={n: t % 0 if "%d" in t else t for n, t in SCRIPTS.items()}).start()
        front = {name: Network(port, 10 + i, **NETWORKS[kind]) for i, (name, port) in enumerate(inner.items())}
        self.networks += front.values()
        self.ports = {name: n.port for name, n in front.items()}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_bad_network_loses_nothing_that_was_acknowledged(kind):
    world = World(kind)
    clients = [Mixed(i, world, most=3000 if kind == "chopped" else 30000, name=b"w") for i in range(12)]
    for c in clients:
        c.start()
    time.sleep(SECONDS)
    world.over = True
    for c in clients:
        c.join(60 * SLOW)
        assert not c.is_alive(), "a client still waits"
    log = world.gateway.log()
    ended = world.gateway.stop()
    for thing in world.networks + world.sinks:
        thing.close()
    wrong = [w for c in clients for w in c.wrong] + leftovers(world, clients)
    acknowledged, lost = sum(c.acknowledged for c in clients), sum(c.lost for c in clients)
    assert not wrong, "\n".join(wrong[:20]) + "\n" + log[-3000:]
    assert not ended, ended
    assert acknowledged > SECONDS * 4, acknowledged
    assert (lost > 0) == world.may_lose
    print("\n%s: %d acknowledged, %d lost, %d resets, %d stalls" % (kind, acknowledged, lost, sum(n.resets for n in world.networks),
                                                                  sum(n.stalls for n in world.networks)))
