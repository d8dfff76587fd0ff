"""How far SKIP, PASS, ACCEPT and a failure with on_error = "continue" reach: which filter is called after each, at the next message, at EHLO amid a
transaction, at RSET, and when XCLIENT names another client; and that the memory of a transaction and of a session ends with it.

Two scripts stand in the chain; the first one says the verdict, both log their calls with two counters that they keep in s.vars and m.vars.
`Model` says what the contract (filters/filter.h) promises; every conversation is held once, the log is read once."""
import collections
import re

import pytest

from gateway import Gateway, free_port
from scripted import Scripted, Script

STAGES = ["connect", "helo", "mail", "rcpt", "data", "headers", "body", "message"]
UP_TO_AUTH = ("connect", "helo")
VERDICTS = ["skip", "pass", "accept", "fail"]
NEXT = ["message", "ehlo", "rset", "xclient"]
FILTER = """local opt = options { stage = "", verdict = "" }
local function called(stage, s, m, acts)
  local line = stage .. " s" .. ((s.vars.calls or 0) + 1)
  s.vars.calls = (s.vars.calls or 0) + 1
  if m then
    m.vars.calls = (m.vars.calls or 0) + 1
    line = line .. " m" .. m.vars.calls
  end
  log.info("called " .. (opt.stage ~= "" and 1 or 2) .. " " .. line .. " at " .. s.listener)
  if acts and stage == opt.stage then
    if opt.verdict == "fail" then error("on purpose") end
    if opt.verdict == "pass" then return pass() end
    if opt.verdict == "skip" then return skip() end
    if opt.verdict == "accept" then return accept() end
  end
end
local function is_from(m) return m.from.localpart == "act" end
function on.connect(s) return called("connect", s, nil, tostring(s.ip) == "127.0.0.1") end
function on.helo(s, name) return called("helo", s, nil, name == "act.test") end
function on.mail(s, m, from) return called("mail", s, m, from.localpart == "act") end
function on.rcpt(s, m, to) return called("rcpt", s, m, to.localpart == "act") end
function on.data(s, m) return called("data", s, m, is_from(m)) end
function on.headers(s, m) return called("headers", s, m, is_from(m)) end
function on.body(s, m, chunk)
  if m.vars.body then return end
  m.vars.body = true
  return called("body", s, m, is_from(m))
end
function on.message(s, m) return called("message", s, m, is_from(m)) end
function on.reset(s, m) called("reset", s, m) end
function on.disconnect(s) called("disconnect", s) end
"""
HEADER, BODY = b"Subject: x\r\n\r\n", b"0123456789 0123456789 0123456789\r\n" * 200


class Model:
    """Two filters, "1" says the verdict at its stage. Calls are (filter, stage, calls of the session, calls of the transaction)."""

    def __init__(self, stage, verdict):
        self.stage, self.verdict, self.calls = stage, verdict, []
        self.session = self.transaction = None
        self.begin_session()

    def begin_session(self):
        self.session = {"skips": set(), "passed": False, "count": collections.Counter()}

    def begin_transaction(self):
        self.transaction = {"skips": set(), "passed": False, "count": collections.Counter(), "called": set()}

    def tell(self, name, stage):
        self.session["count"][name] += 1
        mine = self.transaction if stage not in UP_TO_AUTH + ("disconnect",) else None
        if mine:
            mine["count"][name] += 1
        self.calls.append((name, stage, self.session["count"][name], mine["count"][name] if mine else 0))

    def hook(self, stage, acts):
        early = stage in UP_TO_AUTH
        scopes = [self.session] if early else [self.session, self.transaction]
        for name in "12":
            if any(s["passed"] or name in s["skips"] for s in scopes):
                continue
            self.tell(name, stage)
            if not early:
                self.transaction["called"].add(name)
            if name == "1" and acts and stage == self.stage:
                verdict = "fail" if (stage, self.verdict) == ("rcpt", "pass") else self.verdict  # it is not for one recipient
                if verdict in ("skip", "fail"):
                    scopes[-1]["skips"].add(name)
                elif verdict == "pass":
                    scopes[-1]["passed"] = True
                if verdict in ("pass", "accept"):
                    break

    def end_transaction(self):
        for name in "12":
            if name in self.transaction["called"]:
                self.tell(name, "reset")
        self.transaction = None

    def disconnect(self):
        for name in "12":
            if self.session["count"][name]:
                self.tell(name, "disconnect")


class Both:
    """One conversation, held with the gateway and played by the model."""

    def __init__(self, port, backend, model, hello):
        self.client, self.model = Script(port, backend, hello=hello), model
        model.hook("connect", True)
        model.hook("helo", hello == "act.test")

    def hello(self, name):
        self.client.say(b"EHLO %s\r\n" % name.encode(), ["EHLO"], ["250"])
        self.model.hook("helo", name == "act.test")
        if self.model.transaction:
            self.model.end_transaction()

    def envelope(self, *names):
        self.client.play("MAIL/%s:ok" % names[0])
        self.model.begin_transaction()
        self.model.hook("mail", names[0] == "act")
        for name in names:
            self.client.play(name + ":250")
            self.model.hook("rcpt", name == "act")

    def content(self, acts, whole=True):
        if whole:
            self.client.play("DATA:354")
            self.client.say(HEADER + BODY + b".\r\n", ["end"], ["250"])
        else:
            self.client.say(b"BDAT %d\r\n" % (len(HEADER) + len(BODY)) + HEADER + BODY, ["BDAT"], ["250"])
        for stage in ("data", "headers", "body") + (("message",) if whole else ()):
            self.model.hook(stage, acts)
        if whole:
            self.model.end_transaction()

    def rset(self):
        self.client.play("RSET:done")
        self.model.end_transaction()

    def xclient(self):
        self.client.say(b"XCLIENT ADDR=192.0.2.9\r\n", ["XCLIENT"], ["220"])
        self.model.disconnect()
        self.model.begin_session()
        self.model.hook("connect", False)
        self.hello("plain.test")

    def leave(self):
        self.client.leave()
        self.model.disconnect()


def is_possible(stage, what):
    """EHLO and RSET end a transaction that has come so far. Between two chunks there is no EHLO, behind the end there is no transaction."""
    return not (what == "ehlo" and STAGES.index(stage) >= STAGES.index("data") or what == "rset" and stage == "message")


def converse(both, stage, what):
    both.envelope("act", "more")
    if what in ("message", "xclient"):
        both.content(True)
    elif STAGES.index(stage) >= STAGES.index("data"):
        both.content(True, whole=False)
    if what == "xclient":
        both.xclient()
    elif what == "ehlo":
        both.hello("plain.test")
    elif what == "rset":
        both.rset()
    both.envelope("plain")
    both.content(False)
    both.leave()


def converse_amid(both):
    """The verdict at EHLO amid a transaction: it is the session's, and the next message shows it."""
    both.envelope("plain")
    both.hello("act.test")
    both.envelope("plain")
    both.content(False)
    both.leave()


ROWS = [(s, v, n) for s in STAGES for v in VERDICTS for n in NEXT if is_possible(s, n)]
AMID = [("helo", v, "amid") for v in VERDICTS]


@pytest.fixture(scope="module")
def world():
    """What was called in each row, and what the model says of it."""
    backend = Scripted()
    conf, ports = 'hostname "mx.test"\nworkers(1)\nbackend "b" { "%s", pool = 0, health = 0 }\n' % backend.address, {}
    for i, (stage, verdict, what) in enumerate(ROWS + AMID):
        ports[i] = free_port()
        conf += 'chain "c%d" { filter "1.lua" { stage = "%s", verdict = "%s", on_error = "continue" }, filter "2.lua" { } }\n' % (i, stage, verdict)
        conf += 'listen "l%d" { "127.0.0.1:%d", backend = "b", chain = "c%d", xclient = { "127.0.0.1" }, received = false }\n' % (i, ports[i], i)
    gateway = Gateway(conf, files={"1.lua": FILTER, "2.lua": FILTER}).start()
    models = {}
    try:
        for i, (stage, verdict, what) in enumerate(ROWS + AMID):
            models[stage, verdict, what] = model = Model(stage, verdict)
            backend.begin()
            both = Both(ports[i], backend, model, "plain.test" if what == "amid" else "act.test")
            if what == "amid":
                converse_amid(both)
            else:
                converse(both, stage, what)
        log = gateway.log()
    finally:
        backend.close()
        wrong = gateway.stop()
    assert not wrong, wrong
    seen = collections.defaultdict(list)
    for name, stage, s, m, at in re.findall(r'msg="called ([12]) (\w+) s(\d+)(?: m(\d+))? at l(\d+)"', log):
        seen[int(at)].append((name, stage, int(s), int(m or 0)))
    return {row: (seen[i], models[row].calls) for i, row in enumerate(ROWS + AMID)}


def compare(world, row):
    got, want = world[row]
    assert ["%s.%s s%d m%d" % c for c in got] == ["%s.%s s%d m%d" % c for c in want]


@pytest.mark.parametrize("row", [pytest.param(r, id="%s, %s, %s" % r) for r in ROWS])
def test_calls(world, row):
    compare(world, row)


@pytest.mark.parametrize("row", [pytest.param(r, id="%s, %s, %s" % r) for r in AMID])
def test_calls_behind_a_verdict_at_ehlo_amid_a_transaction(world, row):
    compare(world, row)
