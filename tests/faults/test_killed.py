"""kill -9 of the gateway under load: what a client heard 250 for is at the backend, whole and once, whenever the process died. In CI five
times, SLUICE_FAULTS=all fifty times."""
import os
import random
import signal
import ssl
import time

from gateway import SLOW, Gateway, certificate, free_port
from mixed import SCRIPTS, Books, Mixed, chains, leftovers, listeners

TIMES = 50 if os.environ.get("SLUICE_FAULTS") == "all" else 5


class World:
    may_lose, uncertain, over, pause, patience = True, False, False, 0.0, 60 * SLOW

    def __init__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = certificate()
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        self.sinks = [Books(slow=0.01, can=("PIPELINING", "8BITMIME", "CHUNKING")), Books(slow=0.01, context=context, can=("PIPELINING",))]
        self.ports = {name: free_port() for name in ("plain", "held", "empty", "smtps")}
        conf = ('hostname "mx.test"\nworkers(2)\ncontrol "control"\nlimits { connections_per_client = 0, errors = 1000 }\n'
                'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\nbackend "b" { "127.0.0.1:%d", pool = 4 }\n'
                'backend "t" { "127.0.0.1:%d", tls = "opportunistic", pool = 2 }\nbackend "jail" { "127.0.0.1:%d" }\n%s%s' % (
                    folder, folder, self.sinks[0].port, self.sinks[1].port, self.sinks[0].port, chains(), listeners(self.ports)))
        self.gateway = Gateway(conf, files={n: t % 0 if "%d" in t else t for n, t in SCRIPTS.items()})


def test_what_was_acknowledged_before_a_kill_is_at_the_backend():
    world = World()
    world.gateway.start()
    clients = [Mixed(i, world, most=30000, name=b"k") for i in range(10)]
    for c in clients:
        c.start()
    rng = random.Random(9)
    busy = 0
    try:
        for _ in range(TIMES):
            before = sum(c.acknowledged for c in clients)
            time.sleep(0.2 + rng.random() * 0.6)
            world.gateway.process.send_signal(signal.SIGKILL)
            world.gateway.process.wait()
            busy += sum(c.acknowledged for c in clients) > before
            with open(world.gateway.log_path) as f:
                assert "Sanitizer" not in f.read()
            os.truncate(world.gateway.log_path, 0)
            world.gateway.start()
        time.sleep(0.5)
    finally:
        world.over = True
        for c in clients:
            c.join(60 * SLOW)
        ended = world.gateway.stop()
    for s in world.sinks:
        s.close()
    wrong = [w for c in clients for w in c.wrong] + leftovers(world, clients)
    assert not wrong, "\n".join(wrong[:20])
    assert not ended, ended
    assert busy == TIMES and sum(c.lost for c in clients) >= TIMES
    print("\n%d kills, %d acknowledged, %d connections lost" % (TIMES, sum(c.acknowledged for c in clients), sum(c.lost for c in clients)))
