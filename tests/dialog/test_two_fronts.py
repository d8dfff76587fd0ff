"""One chain, two fronts: what a backend gets through a listener, and what an MTA makes of a message by what a milter with the same chain says, are the same octets."""
import itertools
import random

import pytest

from gateway import Gateway, free_port
from mta import Mta, applied
from scripted import Script, Scripted
from test_passes import FIELDS, FILES, ORDERS, body_of, by_data, header, reference, unstuffed

# Does to the fields what the message itself asks for.
PLAN = """
local h
local does = {
  top = function(name, value) h:add(name, value, "top") end,
  bottom = function(name, value) h:add(name, value, "bottom") end,
  remove = function(name, i) if h:get(name, tonumber(i)) then h:remove(name, tonumber(i)) end end,
  replace = function(name, i, value) if h:get(name, tonumber(i)) then h:replace(name, tonumber(i), value) end end,
  set = function(name, value) h:set(name, value) end,
  append = function(name, value) h:append(name, value) end,
}
function on.headers(s, m)
  h = m.headers
  for what, words in h:get("Plan"):gmatch("(%w+)%(([^)]*)%)") do
    local args = {}
    for word in words:gmatch("[^,]+") do args[#args + 1] = word end
    does[what](table.unpack(args))
  end
end
"""


@pytest.fixture(scope="module")
def world():
    backend = Scripted()
    conf, ports = 'hostname "mx.test"\nworkers(1)\nbackend "b" { "%s", pool = 0, health = 0 }\n' % backend.address, {}
    chains = {(o, w): ", ".join('filter "%s.lua" { wait = %s }' % (name, w) for name in o) for o, w in itertools.product(ORDERS, ("false", "true"))}
    chains["plan"] = 'filter "plan.lua" { }'
    for i, (key, filters) in enumerate(chains.items()):
        ports[key] = free_port(), free_port()
        conf += 'chain "c%d" { %s }\n' % (i, filters)
        conf += 'listen "l%d" { "127.0.0.1:%d", backend = "b", chain = "c%d", received = false }\n' % (i, ports[key][0], i)
        conf += 'milter "m%d" { "127.0.0.1:%d", chain = "c%d", limits { hold_memory = "48K" } }\n' % (i, ports[key][1], i)
    gateway = Gateway(conf, files=dict(FILES, **{"plan.lua": PLAN})).start()
    yield ports, backend
    backend.close()
    wrong = gateway.stop()
    assert not wrong, wrong


def by_milter(port, fields, body, size):
    m = Mta(("127.0.0.1", port)).negotiate().begin()
    got = m.message(header(fields) + body, size=size)
    m.close()
    assert got[-1][0] == "c", got
    fields, body = applied(got, fields, body)
    return header(fields) + body


def by_smtp(port, backend, fields, body):
    backend.begin()
    client = Script(port, backend)
    client.play("MAIL:ok 1:b1")
    by_data(client, header(fields) + body, 1 << 20)
    assert client.client.reply().startswith("250")
    client.leave()
    raw = backend.used[0].heard
    return unstuffed(raw[raw.index(b"DATA\r\n") + 6:raw.index(b"\r\n.\r\n") + 5])


@pytest.mark.parametrize("order,wait", [pytest.param(o, w, id=" ".join(o) + (", waiting" if w == "true" else "")) for o in ORDERS for w in ("false", "true")])
def test_rewriters_and_late_edits(world, order, wait):
    ports, _ = world
    for size, packet in ((0, 65535), (100, 7), (4097, 1000), (16385, 65535), (70000, 65535), (200000, 30001)):
        body = body_of(size)
        got, want = by_milter(ports[order, wait][1], FIELDS, body, packet), reference(order, FIELDS, body)
        assert got == want, (size, got[:300], want[:300])


def dice_of(seed):
    """Fields in which names come again, and a plan for them."""
    dice = random.Random(seed)
    names = ["A", "B", "a", "X-Long", "Subject"]
    value = lambda: dice.choice(["v%d" % dice.randrange(9), "two words", "x" * dice.randrange(1, 90), "one\r\n\tfolded", "", " blank in front"])
    fields = [(dice.choice(names).encode(), b" " + value().encode()) for _ in range(dice.randrange(0, 12))]
    plain = lambda: dice.choice(["n%d" % dice.randrange(9), "new words", "y" * dice.randrange(1, 60)])
    steps = []
    for _ in range(dice.randrange(0, 9)):
        name, i = dice.choice(names), str(dice.choice([1, 2, 3, -1]))
        steps.append(dice.choice(["top(%s,%s)" % (name, plain()), "bottom(%s,%s)" % (name, plain()), "remove(%s,%s)" % (name, i), "replace(%s,%s,%s)" % (name, i, plain()),
                                  "append(%s,%s)" % (name, plain())]))
    fields.insert(dice.randrange(len(fields) + 1), (b"Plan", b" " + " ".join(steps).encode()))
    return fields


@pytest.mark.parametrize("hundred", range(4))
def test_fields_edited_by_the_dice(world, hundred):
    ports, backend = world
    changed = 0
    for seed in range(hundred * 100, hundred * 100 + 100):
        fields = dice_of(seed)
        got, want = by_milter(ports["plan"][1], fields, b"body\r\n", 65535), by_smtp(ports["plan"][0], backend, fields, b"body\r\n")
        assert got == want, (seed, fields, got, want)
        changed += got != header(fields) + b"body\r\n"
    assert changed > 60
