"""A filter has added a recipient, needed or optional, and the next hop refuses it or is lost over it: alone in the envelope or beside one
that the client named, whenever DATA is said, whatever content comes and leaves by, in quarantine and on another route.

The client hears 250 for a message only in the words of a backend that took it: an optional one is left out where somebody else is left, and
all else is a 4yz, for a 5yz is only for whom the client named."""
import itertools

import pytest

from gateway import Gateway, free_port
from scripted import CAN, BODY, Scripted, Script

# Who is sent to says when a filter leaves it out, the sender whether the one that is added is needed.
SCRIPT = """%s
local function leave_out(m, whom)
  for _, r in ipairs(m.rcpts) do if r.localpart == whom then m:remove_rcpt(r) end end
end
function on.rcpt(s, m, to)
  if to.localpart == "gone" then m:remove_rcpt(to) end
  m:add_rcpt("copy@y.test", { optional = m.from.localpart == "opt" })
end
function on.data(s, m) leave_out(m, "fades") %s end
"""
SAYS = {
    "data": ("", ""),
    "headers": ("", "function on.headers(s, m) %s end"),
    "bound": ("", "function on.message(s, m) end"),
    "held": ("edits_late()", 'function on.message(s, m) leave_out(m, "late") %s end'),
}  # the main chunk, and the hook that makes DATA be said then
WAYS = {  # what is done at data, at headers or message
    "plain": ("", ""),
    "route": ('m:route("q%s")', ""),
    "late route": ("", 'm:route("q%s")'),
    "quarantine": ("", 'return quarantine("odd")'),
}
BACKENDS = {"smtp": ("", CAN), "chunking": ("", CAN + ["CHUNKING"]), "lmtp": (', protocol = "lmtp"', CAN)}


def is_possible(say, way):
    late = way in ("late route", "quarantine")
    return not late or say == "held" or (way == "quarantine" and say == "headers")


def script(say, way, kind):
    main, last = SAYS[say]
    early, late = (text.replace("%s", kind) for text in WAYS[way])
    return SCRIPT % (main, early) + (last % late if "%s" in last else last) + "\n"


def name_of(say, way, kind):
    return ("%s_%s_%s" % (say, way, kind)).replace(" ", "_")


PLACES = [(say, way, kind) for say in SAYS for way in WAYS for kind in BACKENDS if is_possible(say, way)]


@pytest.fixture(scope="module")
def world():
    """Listeners by (say, way, backend), and the two backends of each kind: "b", and "q" where mail is routed or quarantined to."""
    conf, files, ports, servers = 'hostname "mx.test"\nworkers(1)\n', {}, {}, {}
    for kind, (more, can) in BACKENDS.items():
        for side in "bq":
            servers[side + kind] = Scripted(side, lmtp=kind == "lmtp", can=can)
            conf += 'backend "%s" { "%s", pool = 0, health = 0%s }\n' % (side + kind, servers[side + kind].address, more)
    for place in PLACES:
        name, ports[place] = name_of(*place), free_port()
        files[name + ".lua"] = script(*place)
        conf += 'chain "%s" { quarantine = "q%s", filter "%s.lua" { } }\n' % (name, place[2], name)
        conf += 'listen "%s" { "127.0.0.1:%d", backend = "b%s", chain = "%s", received = false }\n' % (name, ports[place], place[2], name)
    gateway = Gateway(conf, files=files).start()
    yield ports, servers
    wrong = gateway.stop()
    for server in servers.values():
        server.close()
    assert not wrong, wrong


REFUSALS = {"smtp": ("copy=550", "copy=450", "copy!"), "chunking": ("copy=550",), "lmtp": ("copy=550", "end.copy=552", "end.copy=452")}


def outcome(need, rcpt, refusal):
    """What is heard for the message: a 250 in the words of whoever took it, or a 4yz."""
    return "taken" if need == "opt" and rcpt == "named" and refusal != "copy!" else "452" if refusal == "end.copy=452" else "451"


@pytest.mark.parametrize("place", PLACES, ids=["%s, %s, %s" % p for p in PLACES])
def test_refused(world, place):
    say, way, kind = place
    ports, servers = world
    client = None
    for need, rcpt, refusal, by in itertools.product(("need", "opt"), ("named", "gone", "fades", "late"), REFUSALS[kind], ("DATA", "BDAT")):
        if rcpt == "late" and say != "held":
            continue
        servers["b" + kind].begin(*[refusal] * 2)
        servers["q" + kind].begin(*[refusal] * 2)
        client = client or Script(ports[place], servers["b" + kind])
        what = "%s %s %s %s" % (need, rcpt, refusal, by)
        heard = converse(client, need, rcpt, by)
        want = outcome(need, rcpt, refusal)
        took = [c for s in "bq" for c in servers[s + kind].used if c.counts.get("taken")]
        assert (heard.endswith(" taken") and heard.startswith("250")) if want == "taken" else heard[:3] == want, (what, heard)
        assert heard[:1] == "4" or any(heard == "250 2.0.0 %s taken" % c.name for c in took), (what, heard)
        if want == "taken":
            assert BODY in took[-1].heard and took[-1].name[0] == ("b" if way == "plain" else "q"), (what, took[-1].heard)
    client.leave()


def converse(client, need, rcpt, by):
    """The last word on one message."""
    client.client.send(b"MAIL FROM:<%s@x.test>\r\nRCPT TO:<%s@y.test>\r\n" % (need.encode(), rcpt.encode()))
    assert client.client.reply().startswith("250")
    answer = client.client.reply()
    assert answer.startswith("250"), answer
    if by == "BDAT":
        client.client.send(b"BDAT %d LAST\r\n%s" % (len(BODY), BODY))
        return client.client.reply()
    client.client.send(b"DATA\r\n")
    heard = client.client.reply()
    if heard.startswith("354"):
        client.client.send(BODY + b".\r\n")
        heard = client.client.reply()
    else:
        client.play("RSET:done")
    return heard
