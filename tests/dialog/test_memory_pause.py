"""A worker's memory is short while three clients send content, and the oldest of them does not go on: its filter does not answer, it is
silent, or it is between two chunks. Whoever may go on finishes, and whoever waits for memory as long as a client may be silent hears 452 and
gives back what it holds: nobody waits for the oldest for ever."""
import threading
import time

import pytest

from gateway import SLOW, Gateway, free_port
from peers import Client
from scripted import Scripted

PAUSE = 2 * SLOW  # timeouts.data: a client may be silent for so long, and wait for memory
LINE = b"0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\r\n"
MUCH = LINE * 24000  # 1.6 MB: over one and a quarter of what a worker may hold
CONF = """hostname "mx.test"
workers(1) limits { stress = 0 }
backend "b" { "%s", pool = 0, health = 0 }
chain "c" { filter "hold.lua" { timeout = "300s" } }
listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false,
  limits = { memory = "1M", hold_memory = "8M", min_rate = 0 }, timeouts = { data = "%ds" } }
"""
HOLD = """edits_late()
function on.body(s, m, chunk) if m.from.localpart == "stuck" then sleep "200s" end end
function on.message(s, m) end
"""


class Sender:
    """A client that has come to its content: by DATA it heard 354."""

    def __init__(self, port, name, chunks=False):
        self.client = Client(port)
        self.client.reply()
        for line in ["EHLO c.test", "MAIL FROM:<%s@x.test>" % name, "RCPT TO:<1@y.test>"] + ([] if chunks else ["DATA"]):
            self.client.send(line.encode() + b"\r\n")
            reply = self.client.reply()
            assert reply[0] in "23", reply

    def send(self, octets):
        """Beside the test: the gateway may not read all of it for long."""
        threading.Thread(target=self.client.send, args=(octets,), daemon=True).start()
        return self


@pytest.fixture
def world():
    backend, port = Scripted(), free_port()
    gateway = Gateway(CONF % (backend.address, port, PAUSE), files={"hold.lua": HOLD}).start()
    senders = []

    def sender(*args, **kw):
        senders.append(Sender(port, *args, **kw))
        return senders[-1]
    yield sender
    for s in senders:
        s.client.close()
    backend.close()
    wrong = gateway.stop()
    assert not wrong, wrong


SMALL = b"Subject: x\r\n\r\nsmall\r\n.\r\n"


def test_the_oldest_is_stuck_on_its_filter(world):
    """Its content is not read on, so the second waits for it, too large to be let in, and the third behind that. The second is refused
    after its pause, which gives the third its turn."""
    oldest, second, third = world("stuck"), world("second"), world("third")
    oldest.send(LINE * 4000)  # more than its pipes take: some stays unread
    time.sleep(0.3 * SLOW)
    second.send(MUCH + b".\r\n")
    time.sleep(0.3 * SLOW)
    began = time.monotonic()
    third.send(SMALL)
    assert third.client.reply().startswith("250 2.0.0 b")
    assert second.client.reply().startswith("452 4.3.1 ")
    assert time.monotonic() - began < PAUSE + 3 * SLOW
    for client in (second.client, third.client):  # both sessions live
        client.send(b"NOOP\r\n")
        assert client.reply().startswith("250")


def test_the_oldest_is_stuck_and_all_wait(world):
    """Both that wait are as large: one of them is refused, and what it gives back is enough for the other."""
    oldest, second, third = world("stuck"), world("second"), world("third")
    oldest.send(LINE * 4000)
    time.sleep(0.3 * SLOW)
    second.send(MUCH + b".\r\n")
    third.send(MUCH + b".\r\n")
    began = time.monotonic()
    told = sorted(s.client.reply()[:3] for s in (second, third))
    assert "452" in told and set(told) <= {"250", "452"}
    assert time.monotonic() - began < 2 * PAUSE + 3 * SLOW


def test_the_oldest_is_silent(world):
    """It holds more than the worker may and sends no more: the others are read as if it were not there, and its own clock ends it."""
    oldest = world("silent")
    second, third = world("second"), world("third")
    oldest.send(MUCH)
    time.sleep(0.5 * SLOW)
    began = time.monotonic()
    second.send(SMALL)
    assert second.client.reply().startswith("250 2.0.0 b")
    third.send(SMALL)
    assert third.client.reply().startswith("250 2.0.0 b")
    assert time.monotonic() - began < PAUSE
    assert oldest.client.reply().startswith("421 4.4.2 ")


@pytest.mark.parametrize("half", [b"", b"BDAT 5", b"BDAT 70\r\nhalf of i"], ids=["nothing behind it", "half a command", "half a chunk"])
def test_the_oldest_is_between_two_chunks(world, half):
    """What has come of its next command is not content that waits to be read, and half a chunk is read at once: it stops nobody."""
    oldest = world("chunks", chunks=True)
    second, third = world("second"), world("third")
    oldest.send(b"BDAT %d\r\n" % len(MUCH) + MUCH)
    assert oldest.client.reply().startswith("250 2.0.0 Ok: %d octets" % len(MUCH))
    oldest.send(half)
    time.sleep(0.2 * SLOW)
    began = time.monotonic()
    second.send(SMALL)
    assert second.client.reply().startswith("250 2.0.0 b")
    third.send(SMALL)
    assert third.client.reply().startswith("250 2.0.0 b")
    assert time.monotonic() - began < PAUSE
    if not half:
        oldest.send(b"BDAT 0 LAST\r\n")
        assert oldest.client.reply().startswith("250 2.0.0 b")
