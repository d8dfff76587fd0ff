"""What the walks through the n-th faults share (test_fail_nth.py, test_fail_nth_who.py)."""
import os
import socket
import ssl
import time

import pytest
from gateway import SLOW, SLUICE, certificate

ALL = os.environ.get("SLUICE_FAULTS") == "all"


@pytest.fixture(scope="module", autouse=True)
def only_where_faults_are():
    if "fault_arm" not in os.popen("nm %s" % SLUICE).read():
        pytest.skip("this binary has no faults")


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate() + "/cert.pem", certificate() + "/key.pem")
    return context


class Deferred(Exception):
    pass


def good(reply):
    if reply[:1] not in (b"2", b"3"):
        assert reply[:1] == b"4", reply
        raise Deferred(reply)
    return reply


def ask(gateway, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30 * SLOW)
        s.connect(gateway.folder + "/control")
        s.sendall(command + b"\n")
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()


def descriptors(gateway):
    return len(os.listdir("/proc/%d/fd" % gateway.process.pid))


def settles(gateway, before):
    """As many descriptors as before, soon."""
    deadline = time.monotonic() + 5 * SLOW
    while descriptors(gateway) > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors(gateway) <= before + 2, "descriptors: %d, then %d" % (before, descriptors(gateway))


def walk(gateway, kind, step, run, check):
    """run() once for each n until it does not strike any more; check(n, struck, outcomes). (The n it came to, how often it struck, seconds.)"""
    n, struck, worst = 1, 0, 0.0
    while True:
        assert ask(gateway, b"fail %s %d" % (kind.encode(), n)).startswith("ok"), "n=%d" % n
        began = time.monotonic()
        try:
            outcomes = run()
        except Exception as e:
            raise AssertionError("n=%d: %r" % (n, e)) from e
        worst = max(worst, time.monotonic() - began)
        answer = ask(gateway, b"fail")
        assert gateway.process.poll() is None, "n=%d" % n
        check(n, "did not strike" not in answer, outcomes)
        if "did not strike" in answer:
            return n, struck, worst
        struck += 1
        n += step
