"""Three filters in a chain, in every order: one rewrites the body as it comes, one adds a field at the end, one replaces the body at the end.
Each sees what those before it have made of the message, whether its hooks wait or not, whatever the size of the content and however it
comes, and the backend gets every octet of it (late edits cut the chain into passes)."""
import itertools
import random

import pytest

from gateway import Gateway, free_port
from scripted import CAN, Scripted, Script

FILES = {
    # q becomes QQ: more octets than came. A chunk that has none passes as it is
    "rewrite.lua": """edits_body()
local opt = options { wait = false }
function on.headers(s, m) if opt.wait then sleep "1ms" end end
function on.body(s, m, chunk)
  if opt.wait then sleep "1ms" end
  local text, n = chunk:text():gsub("q", "QQ")
  if n > 0 then chunk:replace(text) end
end
""",
    # says how much of a body it has seen, and how it ends
    "field.lua": """edits_late()
local opt = options { wait = false }
function on.headers(s, m) if opt.wait then sleep "1ms" end m.vars.octets = 0 end
function on.body(s, m, chunk)
  if opt.wait then sleep "1ms" end
  m.vars.octets = m.vars.octets + #chunk
  m.vars.last = chunk:text():sub(-1)
end
function on.message(s, m)
  if opt.wait then sleep "1ms" end
  m.headers:add("X-Octets", string.format("%d", m.vars.octets))
end
""",
    # says behind the body how many fields it has seen
    "body.lua": """edits_late() reads_body()
local opt = options { wait = false }
function on.headers(s, m) if opt.wait then sleep "1ms" end end
function on.message(s, m)
  if opt.wait then sleep "1ms" end
  m:set_body(m:body { max = "1M" } .. "fields: " .. m.headers:count() .. " q\\r\\n")
end
"""}
NAMES = ["rewrite", "field", "body"]
ORDERS = list(itertools.permutations(NAMES)) + [("rewrite", "body", "rewrite"), ("body", "rewrite", "body"), ("field", "field", "rewrite"),
                                              ("rewrite",) * 3]
SIZES = [0, 1, 2, 100, 4094, 4095, 4096, 4097, 4098, 16383, 16384, 16385, 32768, 65534, 65535, 65536, 65537, 70000, 200000]
FEW = [0, 100, 4097, 16385, 70000]
FIELDS = [(b"Subject", b" x"), (b"To", b" b@y.test,\r\n\tc@y.test"), (b"X-Empty", b"")]


def body_of(size):
    """So many octets (but for 1) in lines of all lengths, with dots in front; 5,000 with q and 5,000 without, in turn."""
    dice, lines, n = random.Random(size), [], 0
    while n < size:
        line = bytes(dice.choice(b"..abc " + (b"" if n // 5000 % 2 else b"qq")) for _ in range(dice.randrange(0, 70))) + b"\r\n"
        if len(line) > size - n or 0 < size - n - len(line) < 2:
            line = (b"z" * (size - n - 2) + b"\r\n")[-(size - n):] if size - n > 1 else b""
        if not line:
            break
        lines.append(line)
        n += len(line)
    return b"".join(lines)


def reference(order, fields, body):
    for name in order:
        if name == "rewrite":
            body = body.replace(b"q", b"QQ")
        elif name == "field":
            fields = fields + [(b"X-Octets", b" %d" % len(body))]
        else:
            body += b"fields: %d q\r\n" % len(fields)
    return header(fields) + body


def header(fields):
    return b"".join(n + b":" + v + b"\r\n" for n, v in fields) + b"\r\n"


def unstuffed(raw):
    return b"".join(l[1:] if l.startswith(b".") else l for l in raw[:-3].splitlines(True))


def stuffed(octets):
    return b"".join(b"." + l if l.startswith(b".") else l for l in octets.splitlines(True)) + b".\r\n"


@pytest.fixture(scope="module")
def world():
    backend = Scripted()
    conf, ports = 'hostname "mx.test"\nworkers(1)\nbackend "b" { "%s", pool = 0, health = 0 }\n' % backend.address, {}
    for i, key in enumerate(itertools.product(ORDERS, ("false", "true"))):
        ports[key] = free_port()
        filters = ", ".join('filter "%s.lua" { wait = %s }' % (name, key[1]) for name in key[0])
        conf += 'chain "c%d" { %s }\n' % (i, filters)
        conf += 'listen "l%d" { "127.0.0.1:%d", backend = "b", chain = "c%d", received = false, limits = { hold_memory = "48K" } }\n' % (
            i, ports[key], i)
    gateway = Gateway(conf, files=FILES).start()
    yield ports, backend
    backend.close()
    wrong = gateway.stop()
    assert not wrong, wrong


def by_data(client, content, piece):
    client.play("DATA:354")
    raw = stuffed(content)
    for i in range(0, len(raw), piece):
        client.client.send(raw[i:i + piece])


def by_bdat(client, content, piece):
    by_pieces(client, [content[i:i + piece] for i in range(0, len(content), piece)])


def by_pieces(client, pieces):
    for p in pieces[:-1]:
        client.say(b"BDAT %d\r\n" % len(p) + p, ["BDAT"], ["250"])
    client.client.send(b"BDAT %d LAST\r\n" % len(pieces[-1]) + pieces[-1])


def deliver(world, order, wait, size, say, piece):
    body = body_of(size)
    assert len(body) == size - (size == 1)
    compare(world, order, wait, body, lambda client: say(client, header(FIELDS) + body, piece))


def compare(world, order, wait, body, say):
    ports, backend = world
    backend.begin()
    client = Script(ports[order, wait], backend)
    client.play("MAIL:ok 1:b1")
    say(client)
    reply = client.client.reply()
    assert reply.startswith("250 2.0.0 b1 taken"), (len(body), reply)
    raw = backend.used[0].heard
    got, want = unstuffed(raw[raw.index(b"DATA\r\n") + 6:raw.index(b"\r\n.\r\n") + 5]), reference(order, FIELDS, body)
    assert got == want, difference(got, want, len(body))
    client.leave()


def difference(got, want, size):
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return "%d octets of body: at octet %d of %d (not %d) %r instead of %r" % (
        size, at, len(got), len(want), got[max(at - 20, 0):at + 30], want[max(at - 20, 0):at + 30])


EVERY = [pytest.param(o, w, id=" ".join(o) + (", waiting" if w == "true" else "")) for o in ORDERS for w in ("false", "true")]


@pytest.mark.parametrize("order,wait", EVERY)
def test_by_data(world, order, wait):
    for size in FEW if wait == "true" else SIZES:
        deliver(world, order, wait, size, by_data, 1 << 20)


@pytest.mark.parametrize("order,wait", EVERY)
def test_by_chunks(world, order, wait):
    for size, piece in ((100, 7), (4097, 1000), (16385, 4096), (65537, 20000), (65537, 1 << 20)):
        deliver(world, order, wait, size, by_bdat, piece)


@pytest.mark.parametrize("order,wait", EVERY)
def test_octet_by_octet(world, order, wait):
    for size in (0, 130):
        deliver(world, order, wait, size, by_data, 1)


@pytest.mark.parametrize("order,wait", EVERY)
def test_a_line_end_that_is_cut_between_chunks(world, order, wait):
    """Each piece is a chunk of its own for the first filter; one passes and the next is replaced, in both orders."""
    for odd in (0, 1):
        lines = [[b"%s %d\r\n" % (b"q" if i % 2 == odd else b"a", n) for n in range(800)] for i in range(4)]
        body = b"".join(b"".join(part) for part in lines)
        ends = list(itertools.accumulate(len(b"".join(part)) for part in lines))
        cuts = [0] + [e - 1 for e in ends[:-1]] + [ends[-1]]
        compare(world, order, wait, body, lambda c: by_pieces(c, [header(FIELDS)] + [body[a:b] for a, b in zip(cuts, cuts[1:])]))
