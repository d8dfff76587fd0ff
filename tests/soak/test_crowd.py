"""9,000 idle sessions and a flood of 2,000 slowloris clients: mail goes on, at no worse than twice its usual latency."""
import os
import resource
import statistics
import subprocess
import sys
import time

import pytest
from gateway import Gateway, free_port
from sink import Sink, Talker, configuration, latencies

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IDLE, SLOW = (9000, 2000) if LIMIT >= 20000 else (LIMIT * 9 // 20, LIMIT // 10)


def test_a_crowd_does_not_keep_mail_waiting():
    sink, port = Sink(), free_port()
    gateway = Gateway(configuration(port, sink.port, top="limits { connections = 15000 }", backend="pool = 16",
                                    listen='timeouts = { line = "5s" }')).start()
    crowd = None
    try:
        latencies(port, 50)
        before = gateway.rss()
        usual = latencies(port, 300)
        crowd = subprocess.Popen([sys.executable, os.path.join(HERE, "crowd.py"), str(port), str(IDLE), str(SLOW)], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        assert crowd.stdout.readline().strip() == "ready"
        resident = (gateway.rss() - before) / (IDLE + SLOW)
        time.sleep(1)
        began = time.monotonic()
        under = latencies(port, 300)
        while time.monotonic() - began < 8:  # the first slow ones have been cut by then, and have come again
            under += latencies(port, 50)
        crowd.stdin.write("wake\n")
        crowd.stdin.flush()
        answered, cuts = (int(w) for w in crowd.stdout.readline().split())
        p50 = [statistics.median(t) * 1000 for t in (usual, under)]
        p90 = [statistics.quantiles(t, n=10)[8] * 1000 for t in (usual, under)]
        print("\n%d idle, %d slow: p50 %.2f -> %.2f ms, p90 %.2f -> %.2f ms, %d cut off, %.1f KiB each" %
              (IDLE, SLOW, p50[0], p50[1], p90[0], p90[1], cuts, resident))
        assert answered == 100
        assert cuts >= SLOW
        assert p50[1] <= 2 * p50[0]
        assert "paused" not in gateway.log() and "new ones wait" not in gateway.log()
    finally:
        if crowd:
            crowd.communicate("end\n", timeout=60)
        sink.close()
        wrong = gateway.stop()
    assert wrong == ""
