"""A worker's memory is short while MTAs say the content of messages that filters hold: the oldest goes on, the others wait, and whoever has waited
as long as an MTA waits for an answer is deferred and gives back what it holds. Nothing grows beyond that, however many come."""
import re
import threading
import time

import pytest

from gateway import SLOW, Gateway, free_port
from mta import Mta, packet

PAUSE = 2 * SLOW  # timeouts.command
LINE = b"0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\r\n"
MUCH = LINE * 30000  # 2 MB: more than a worker may hold
CONF = """workers(1) limits { stress = 0, memory = "1M" }
chain "c" { filter "hold.lua" { timeout = "300s" } }
milter "m" { "127.0.0.1:%d", chain = "c", connections = 1000, timeouts { command = "%ds", end_by = "60s", packet = "60s" }, limits { hold_memory = "64M" } }
"""
HOLD = """edits_body() edits_late()
function on.headers(s, m) if m.from.localpart == "stuck" then sleep "200s" end end
function on.body(s, m, c) if m.from.localpart == "slow" then sleep "%dms" end end
function on.message(s, m) end
"""


@pytest.fixture
def world():
    port = free_port()
    gateway = Gateway(CONF % (port, PAUSE), {"filters/hold.lua": HOLD % (PAUSE * 50)}).start()

    def mta(name):
        m = Mta(("127.0.0.1", port), patience=120 * SLOW).negotiate().begin()
        assert m.event("M", packet("M", "<%s@x.test>" % name))[0] == "c"
        assert m.event("R", packet("R", "<1@y.test>"))[0] == "c"
        return m
    mta.gateway, mta.port = gateway, port
    yield mta
    wrong = gateway.stop()
    assert not wrong, wrong


def content(octets=MUCH):
    return b"Subject: x\r\n\r\n" + octets


def in_background(m, octets):
    t = threading.Thread(target=lambda: setattr(m, "got", m.content(octets)), daemon=True)
    t.start()
    return t


def peak(gateway):
    with open("/proc/%d/status" % gateway.process.pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1)) << 10


def test_who_waits_behind_an_oldest_that_is_slow_is_deferred(world):
    """The filter of the oldest takes its time for each chunk, with more of it unread; what the second holds is given back, and the third goes on."""
    slow, second, third = world("slow"), world("second"), world("third")
    said = [packet("L", "Subject", " x"), packet("N")] + [packet("B", data=LINE * 900)] * 30  # without waiting for answers
    threading.Thread(target=slow.say, args=said, daemon=True).start()
    time.sleep(0.3 * SLOW)
    began = time.monotonic()
    waits = in_background(second, content())
    waits.join(60 * SLOW)
    took = time.monotonic() - began
    assert second.got[-1][0] == "y" and second.got[-1][1].startswith(b"452 4.3.1 "), second.got
    assert PAUSE * 0.8 < took < PAUSE * 3 + 3 * SLOW
    assert third.content(content(LINE)) == [("c", b"")]
    assert second.message(content(LINE)) == [("c", b"")]  # its connection lives


def test_who_waits_goes_on_when_there_is_memory_again(world):
    stuck, second = world("stuck"), world("second")
    stuck.say(packet("L", "Subject", " x"), packet("N"), *[packet("B", data=LINE * 900)] * 3)
    time.sleep(0.3 * SLOW)
    waits = in_background(second, content())
    time.sleep(0.3 * PAUSE)
    assert waits.is_alive()
    stuck.say(packet("A"))
    stuck.close()  # the second is the oldest now
    waits.join(60 * SLOW)
    assert second.got == [("c", b"")]


def test_many_large_messages_at_once_are_forwarded_or_deferred_in_bounded_memory(world):
    """120 MTAs with 2 MB each: one at a time goes on above the limit. Each that waits has at most its pipe of what it said."""
    n = 120
    everybody = [world("n%d" % i) for i in range(n)]
    for m in everybody:
        assert m.event("T", packet("T"))[0] == "c"
    before = peak(world.gateway)
    threads = [in_background(m, content()) for m in everybody]
    for t in threads:
        t.join(300 * SLOW)
    ends = [m.got[-1] for m in everybody]
    assert all(kind == "c" or (kind == "y" and data.startswith(b"452 4.3.1 ")) for kind, data in ends), ends
    assert ("c", b"") in ends
    assert peak(world.gateway) - before < 64 << 20, (peak(world.gateway) - before) >> 20
    assert everybody[0].message(content(LINE)) == [("c", b"")]
    for m in everybody:
        m.close()
