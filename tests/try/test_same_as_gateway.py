"""The same messages through a gateway and through sluice try: what the client hears, whom the next hop hears of, and the octets that leave are the same,
as far as docs/try.md says so ("The same as the gateway"); where they are not, the difference is held here too."""
import glob
import hashlib
import os
import random
import socket
import threading

import pytest

from gateway import ROOT, Gateway, free_port
from peers import Backend, Client, Wrong
from test_try import SCRIPTS, Tried, run_try

FILES = {
    "rcpts.lua": SCRIPTS["rcpts.lua"], "late.lua": SCRIPTS["late.lua"], "body.lua": SCRIPTS["body.lua"],
    # does to the fields and says of the message what its own field asks for
    "plan.lua": """
function on.mail(s, m, from)
  if tostring(from):find("^bad@") then return reject("550 5.7.1 bad sender") end
end
function on.headers(s, m)
  local plan = m.headers:get "Plan"
  if not plan then return end
  if plan:find "top" then m.headers:add("X-Top", "1", "top") end
  if plan:find "bottom" then m.headers:add("X-Bottom", "folded " .. ("word "):rep(30)) end
  if plan:find "remove" then m.headers:remove "Subject" end
  if plan:find "set" then m.headers:set("To", "someone@else.test") end
  if plan:find "early" then return reject("554 5.6.0 not these fields") end
end
function on.message(s, m)
  local plan = m.headers:get "Plan" or ""
  if plan:find "reject" then return reject("554 5.7.1 no\\nand once more no") end
  if plan:find "defer" then return defer("451 4.3.0 later") end
  if plan:find "discard" then return discard("away") end
  if plan:find "hold" then return quarantine("odd") end
  if plan:find "error" then error "broken on purpose" end
end
""",
    "replace.lua": """
edits_late() reads_body()
function on.message(s, m) m:set_body((m:body { max = "1M" }:gsub("a", "aa"))) end
""",
    "names.lua": """
function on.rcpt(s, m, to)
  local list, why = dns.a(tostring(to):gsub("@.*", "") .. ".test")
  if why == "nxdomain" then return reject("550 5.1.2 %s", why) end
end
"""}
EDITS = 'filter "rcpts.lua", filter "plan.lua", filter "subject_tag.lua"'
CHAINS = {"none": "", "edits": EDITS, "late": 'filter "rcpts.lua", filter "late.lua", filter "body.lua"',
          "held": 'filter "plan.lua", filter "replace.lua", filter "body.lua"'}
ALL, ONE = ("ann@example.org", "add@example.org"), ("ann@example.org",)
# chain, listener's options, next hop, sender, recipients
GROUPS = [
    ("none", "", "yes", "a@b.test", ONE), ("edits", "", "yes", "a@b.test", ALL), ("edits", "", "yes", "", ("eve@example.org", "ann@example.org", "lost@example.org")),
    ("edits", 'bare = "normalize",', "yes", "a@b.test", ONE), ("edits", "", "yes", "bad@b.test", ONE), ("edits", "", "yes", "a@b.test", ("eve@example.org", "hold@example.org")),
    ("edits", "", "yes", "a@b.test", ("lost@example.org",)), ("edits", "", "yes", "a@b.test", ("drop@example.org", "ann@example.org")), ("late", "", "yes", "a@b.test", ALL),
    ("held", "", "yes", "a@b.test", ONE), ("late", 'bare = "normalize",', "yes", "a@b.test", ONE), ("edits", "", "rcpt", "a@b.test", ALL),
    ("edits", "", "mail", "a@b.test", ALL), ("edits", "", "message", "a@b.test", ONE), ("edits", "", "later", "a@b.test", ONE)]
SAYS = {"yes": {}, "rcpt": {"rcpt": "550 5.1.1 not here"}, "mail": {"mail": "451 4.1.8 not from there"}, "message": {"message": "554 5.7.1 spam"},
        "later": {"message": "452 4.3.1 full"}}
HIDDEN = "550 5.5.2 A line of mail data is a lone dot but for NUL octets or the eighth bit"
BARE = "550 5.5.2 Bare CR or bare LF in mail data"
QUEUED = "250 2.0.0 Ok: queued as A1"


class NextHop:
    """A backend that says what it is told to, and keeps what it hears: (sender, recipients, content) of each message."""

    def __init__(self, says, can=("PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES")):
        self.says, self.can, self.kept = says, list(can), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer = Backend(self.listener.accept()[0])
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            if peer.greet(self.can):
                self.mails(peer)
        except (Wrong, OSError):
            pass

    def mails(self, peer):
        sender, rcpts = None, []
        while True:
            line = peer.line()
            verb, reply = line[:4].upper(), "250 2.0.0 Ok"
            path = line[line.find("<") + 1:line.find(">")]
            if verb == "MAIL":
                sender, rcpts, reply = path, [], self.says.get("mail", "250 2.1.0 Ok")
            elif verb == "RCPT":
                reply = self.says.get("rcpt", "250 2.1.5 Ok")
                rcpts += [path] if reply[0] == "2" else []
            elif verb == "DATA":
                peer.send(b"354 go on\r\n")
                content = peer.content()
                reply = self.says.get("message", QUEUED)
                if reply[0] == "2":
                    self.kept.append((sender, sorted(rcpts), content))
            peer.send(reply.encode() + b"\r\n")
            if verb == "QUIT":
                return

    def close(self):
        self.listener.close()


# ---- messages

def made(seed):
    """A message by the dice: fields that come again, a plan for the filters, a body with what is hard about dots and line ends."""
    dice = random.Random(seed)
    crlf = b"\r\n"
    plans = ["top", "bottom", "remove", "set", "early", "reject", "defer", "discard", "hold", "error", "nothing"]
    fields = [b"From: a@b.test", b"To: c@d.test", b"Subject: " + dice.choice([b"x", b"=?utf-8?q?=C3=A4?=", b"long " * 40, b"folded" + crlf + b"\tonce", b""])]
    if dice.random() < 0.7:
        fields.append(b"Plan: " + " ".join(dice.sample(plans, dice.randrange(1, 4))).encode())
    if dice.random() < 0.2:
        fields.append(dice.choice([b"no colon here", b"Odd : x", b"X-Empty:", b"X-8: \xe4\xff", b"Bcc: e@f.test"]))
    dice.shuffle(fields)
    odd = [b".", b"..", b".x", b"a" * dice.randrange(1, 1200), b"second", b"", b"caf\xc3\xa9", b"\xae", b"tab\t"]
    if dice.random() < 0.25:
        odd += [b"\0.", b"\0", b".\0", b"x\0.", b"\0\0.x"]
    lines = [dice.choice(odd) for _ in range(dice.choice([0, 1, 3, 20, 200]))]
    body = crlf.join(lines) + dice.choice([crlf, crlf, b"", b".", crlf + crlf])
    if dice.random() < 0.1:
        at = dice.randrange(len(body) + 1)
        body = body[:at] + dice.choice([b"\n", b"\r", b"\n.\n", b"\r."]) + body[at:]
    return crlf.join(fields) + crlf + (crlf if dice.random() < 0.95 else b"") + body


# More than is held for a verdict: what comes too late for one comes too late for the other.
LARGE = [b"Plan: %s\r\nTo: c@d.test\r\n\r\n" % plan + b"second line of many\r\n.\r\n" * 20000 for plan in (b"hold", b"reject", b"nothing")]


def as_a_client_says_it(octets):
    """What try makes of a file before it is content: docs/try.md, --raw."""
    return octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")


def corpus():
    folders = ["tests/fuzz/corpus/header", "tests/fuzz/corpus/content", "tests/fuzz/corpus/words", "tests/fuzz/corpus/addresses", "tests/try/mails"]
    for path in sorted(p for f in folders for p in glob.glob(os.path.join(ROOT, f, "*"))):
        with open(path, "rb") as f:
            octets = f.read()
        if not octets.startswith(b"From "):
            yield octets


# ---- the gateway

@pytest.fixture(scope="module")
def world():
    hops = {name: NextHop(says) for name, says in SAYS.items()}
    jail = NextHop({})
    conf = 'hostname "mx.test"\nworkers(1)\n' + "".join('backend "%s" { "%s", health = 0 }\n' % (n, h.address) for n, h in [*hops.items(), ("jail", jail)])
    conf += "".join('chain "%s" { quarantine = "jail", %s }\n' % c for c in CHAINS.items())
    ports = []
    for i, (chain, more, hop, _, _) in enumerate(GROUPS):
        ports.append(free_port())
        conf += 'listen "l%d" { "127.0.0.1:%d", backend = "%s", chain = "%s", received = false, %s }\n' % (i, ports[i], hop, chain, more)
    gateway = Gateway(conf, FILES).start()
    yield gateway, ports, hops, jail
    for hop in [*hops.values(), jail]:
        hop.close()
    wrong = gateway.stop()
    assert not wrong, wrong


class Sender:
    """A client that sends one message a connection."""

    def __init__(self, port):
        self.port, self.client = port, None

    def say(self, line):
        self.client.send(line.encode() + b"\r\n")
        return self.client.reply()

    def send(self, octets, sender, to):
        """What the client hears last, and of each recipient."""
        self.client = Client(self.port)
        self.client.reply()
        self.say("EHLO client.example")
        try:
            return self.transact(octets, sender, to)
        finally:
            self.client.close()

    def transact(self, octets, sender, to):
        said = self.say("MAIL FROM:<%s>" % sender)
        if said[0] != "2":
            return said, []
        rcpts = []
        for t in to:
            rcpts.append(self.say("RCPT TO:<%s>" % t))
            if rcpts[-1].startswith("421"):
                return rcpts[-1], rcpts
        said = rcpts[-1]
        if any(r[0] == "2" for r in rcpts):
            said = self.say("DATA")
            if said[0] == "3":
                stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
                self.client.send(stuffed + (b"" if octets.endswith(b"\r\n") or not octets else b"\r\n") + b".\r\n")
                said = self.client.reply()
        return said, rcpts


def reply_of(one):
    """As the client hears it."""
    if one["code"] is None:
        return None
    enhanced = one["enhanced"] + " " if one["enhanced"] else ""
    return "%d %s" % (one["code"], "|".join(enhanced + line for line in one["text"].split("\n")))


FATES = {"2": {"forwarded", "discard", "quarantine"}, "4": {"defer", "error"}, "5": {"reject", "drop"}}


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_the_same_messages_come_to_the_same(world, tmp_path, group):
    gateway, ports, hops, jail = world
    chain, _, hop, sender, to = GROUPS[group]
    messages = [made(group * 1000 + i) for i in range(100 if group == 1 else 30)] + (list(corpus()) + LARGE if group in (0, 1, 8) else [])
    for i, octets in enumerate(messages):
        (tmp_path / ("%04d.eml" % i)).write_bytes(octets)
    words = [w for t in to for w in ("--to", t)] + [w for s in {"message": QUEUED, **SAYS[hop]}.items() for w in ("--reply", "%s=%s" % s)]
    jail.says = SAYS[hop]  # --reply is for whichever next hop it is
    tried = run_try("-c", gateway.conf, "--listen", "l%d" % group, "--from", sender, *words, "--json", str(tmp_path)).json
    assert len(tried) == len(messages)
    client, leaves, seen = Sender(ports[group]), 0, set()
    for i, (octets, got) in enumerate(zip(messages, tried)):
        before = len(hops[hop].kept), len(jail.kept)
        said, rcpts = client.send(as_a_client_says_it(octets), sender, to)
        what = (group, i, octets[:200], got["verdict"], got["stage"], got["filter"])
        assert reply_of(got) == said, what
        assert got["verdict"] in FATES[said[0]] or (got["verdict"], said[0]) == ("drop", "4"), what
        client_rcpts = [r for r in got["rcpts"] if r["state"] != "added"]
        assert [reply_of(r) for r in client_rcpts][:len(rcpts)] == rcpts, what
        kept = hops[hop].kept[before[0]:] + jail.kept[before[1]:]
        assert len(kept) == (got["verdict"] in ("forwarded", "quarantine")), what
        if kept:
            assert len(jail.kept) - before[1] == (got["verdict"] == "quarantine"), what
            assert got["backend"] == ("jail" if got["verdict"] == "quarantine" else hop)
            assert (kept[0][0], kept[0][1]) == (got["from"]["address"], sorted(r["address"] for r in got["rcpts"] if r["state"] in ("accepted", "added"))), what
            assert (len(kept[0][2]), hashlib.sha256(kept[0][2]).hexdigest()) == (got["octets_out"], got["sha256_out"]), (what, kept[0][2][:300])
            leaves += 1
        seen |= {got["verdict"], said}
    if group == 1:  # the dice throw all of it
        assert seen >= {"forwarded", "reject", "defer", "discard", "quarantine", "error", HIDDEN, BARE}, seen
    if group in (0, 1, 2, 3, 8, 9, 10):
        assert leaves >= 10, seen


# ---- what differs: docs/try.md names it

def test_limits_of_the_front_are_notes_and_a_next_hop_has_8bitmime():
    hop = NextHop({}, can=["PIPELINING"])
    port = free_port()
    gateway = Gateway("""hostname "mx.test"
workers(1)
limits { size = 2000, recipients = 1 }
backend "b" { "%s", health = 0 }
listen "l" { "127.0.0.1:%d", backend = "b", received = false }
""" % (hop.address, port)).start()
    head = b"From: a@b.test\r\nTo: c@d.test\r\n\r\n"
    rows = [(head + b"x" * 3000 + b"\r\n", ONE, "552", 250), (head + b"\r\n\xae\r\n", ONE, "550", 250), (head, ALL, "250", 250)]
    for octets, to, hears, tells in rows:
        path = os.path.join(gateway.folder, "m.eml")
        with open(path, "wb") as f:
            f.write(octets)
        got = run_try("-c", gateway.conf, "--listen", "l", "--from", "a@b.test", *(w for t in to for w in ("--to", t)), path, "--json").json
        said, rcpts = Sender(port).send(octets, "a@b.test", to)
        assert (said[:3], got["code"]) == (hears, tells)
        assert [r[:3] for r in rcpts] == ["250", "452"][:len(rcpts)] and {r["code"] for r in got["rcpts"]} == {250}
        assert got["notes"] == (["limits.size is 2000: the client hears 552"] if hears == "552" else [])
    hop.close()
    assert not gateway.stop()
