"""Who the client is: of the connection itself, of a PROXY header, of XCLIENT, and for one message of XFORWARD. In each message of a session
the facts that filters see at every stage, the line of the log, our Received field and what the backend is told by XCLIENT, XFORWARD or PROXY
speak of the same client."""
import re
import socket
import threading

import pytest

from gateway import SLOW, Gateway, free_port
from peers import Backend, Client, Wrong

STAGES = ["mail", "rcpt", "data", "headers", "body", "message", "reset"]
IDENTITIES = ["xclient", "xforward", "proxy_v1"]


class Who:
    """A client as each of them should tell it; None: not known."""

    def __init__(self, ip="127.0.0.1", port=None, name="localhost", helo="self.test", esmtp=True, local=("127.0.0.1", None), user=None,
                 proto=None, ident=None, source="REMOTE"):
        self.ip, self.port, self.name, self.helo, self.esmtp, self.local, self.user = ip, port, name, helo, esmtp, local, user
        self.proto, self.ident, self.source = proto or ("ESMTP" if esmtp else "SMTP"), ident, source


PROXIED = dict(ip="192.0.2.7", port=4711, name=None, local=("198.51.100.1", 2525))
NAMED = dict(ip="192.0.2.9", port=77, name="mail.a.test", local=("198.51.100.2", 26), user="ann")
FIRST = dict(ip="192.0.2.21", port=2101, name="first.test", helo="h1.test", proto="SMTP", ident="Q1")
SECOND = dict(ip="192.0.2.22", port=2102, name=None, helo=None, source="LOCAL")
FORWARD_1 = ["XFORWARD NAME=first.test ADDR=192.0.2.21 PORT=2101", "XFORWARD HELO=h1.test PROTO=SMTP IDENT=Q1 SOURCE=REMOTE"]
FORWARD_2 = ["XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.22 PORT=2102 SOURCE=LOCAL"]
XCLIENT = ["XCLIENT NAME=mail.a.test ADDR=192.0.2.9 PORT=77 LOGIN=ann DESTADDR=198.51.100.2 DESTPORT=26 PROTO=ESMTP", "EHLO named.test"]
XCLIENT_2 = ["XCLIENT NAME=other.test ADDR=192.0.2.10 PORT=78 LOGIN=[UNAVAILABLE]", "HELO other.test"]

# A session is a row of lines, and of messages: (its sender, who sends it).
ITSELF = Who()
OVER = dict(local=NAMED["local"], user="ann")
SESSIONS = {
    "itself, under XFORWARD and behind it": (b"", ["EHLO self.test", ("a", ITSELF)] + FORWARD_1 + [("b", Who(**FIRST)), ("c", ITSELF)] +
                                             FORWARD_2 + [("d", Who(**SECOND)), ("e", ITSELF), "EHLO again.test", ("f", Who(helo="again.test"))]),
    "XFORWARD that RSET or EHLO ends": (b"", ["EHLO self.test"] + FORWARD_1 + ["RSET", ("a", ITSELF)] + FORWARD_1 +
                                        ["MAIL FROM:<x@x.test>", "RSET", ("b", ITSELF)] + FORWARD_1 +
                                        ["EHLO again.test", ("c", Who(helo="again.test"))] + FORWARD_1 +
                                        ["MAIL FROM:<x@x.test>", "HELO old.test", ("d", Who(helo="old.test", esmtp=False))]),
    "XCLIENT, XFORWARD over it and behind": (b"", ["EHLO self.test", ("a", ITSELF)] + XCLIENT + [("b", Who(helo="named.test", **NAMED))] +
                                             FORWARD_1 + [("c", Who(**FIRST, **OVER)), ("d", Who(helo="named.test", **NAMED))] + XCLIENT_2 +
                                             [("e", Who(ip="192.0.2.10", port=78, name="other.test", helo="other.test", esmtp=False,
                                                        local=NAMED["local"]))]),
    "XFORWARD that XCLIENT ends": (b"", ["EHLO self.test"] + FORWARD_1 + XCLIENT + [("a", Who(helo="named.test", **NAMED))]),
    "PROXY, and XFORWARD over it": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 2525\r\n",
                                    ["EHLO self.test", ("a", Who(**PROXIED))] + FORWARD_1 +
                                    [("b", Who(local=PROXIED["local"], **FIRST)), ("c", Who(**PROXIED))]),
    "PROXY, and XCLIENT over it": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 2525\r\n",
                                   ["EHLO self.test"] + XCLIENT + [("a", Who(helo="named.test", **NAMED))] + FORWARD_2 +
                                   [("b", Who(**SECOND, **OVER)), ("c", Who(helo="named.test", **NAMED))]),
}


class Told:
    """A backend that takes everything, and keeps of each message, by its sender, what it was told of the client and its content."""

    def __init__(self):
        self.messages, self.listener, self.peers = {}, socket.create_server(("127.0.0.1", 0)), []
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(Backend(sock))
            threading.Thread(target=self.serve, args=(self.peers[-1],), daemon=True).start()

    def serve(self, peer):
        told, sender = {}, None
        can = ["PIPELINING", "XCLIENT NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
               "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"]
        try:
            peer.send(b"220 b.test\r\n")
            while True:
                line = peer.line()
                verb = line.split()[0].upper()
                if verb in ("PROXY", "XCLIENT", "XFORWARD"):
                    told[verb] = told.get(verb, []) + [line] if verb == "XFORWARD" else [line]
                if verb == "PROXY":
                    continue
                if verb == "MAIL":
                    sender = re.search("<([^@]*)@", line)[1]
                    self.messages[sender] = {"told": dict(told)}
                    told.pop("XFORWARD", None)
                if verb == "EHLO":
                    peer.send("".join("250-%s\r\n" % l for l in ["b.test"] + can[:-1]).encode() + b"250 %s\r\n" % can[-1].encode())
                elif verb == "DATA":
                    peer.send(b"354 go\r\n")
                    self.messages[sender]["content"] = peer.content().decode()
                    peer.send(b"250 2.0.0 taken\r\n")
                else:
                    peer.send(b"220 b.test\r\n" if verb == "XCLIENT" else b"250 2.1.0 ok\r\n")
        except (Wrong, OSError):
            pass

    def close(self):
        self.listener.close()
        for peer in self.peers:
            peer.close()


CONF = """hostname "mx.test"
workers(1)
%s
backend "b" { "%s", identity = "%s", pool = 2, health = 0 }
chain "c" { %s }
listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = true,
  xclient = { "127.0.0.0/8", "192.0.2.7" }, xforward = { "127.0.0.0/8", "192.0.2.7" } }
listen "p" { "127.0.0.1:%d", backend = "b", chain = "c", received = true,
  xclient = { "127.0.0.0/8", "192.0.2.7" }, xforward = { "127.0.0.0/8", "192.0.2.7" },
  proxy = { "127.0.0.1" } }
"""
DNS = 'dns { servers = { "127.0.0.1:%d" } }'


class Resolver:
    """Knows no name, and of 192.0.2.33 it says nothing at all."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            end = query.index(b"\0", 12) + 5
            if not query[12:].startswith(b"\x0233\x012\x010"):
                self.sock.sendto(query[:2] + b"\x81\x83\0\x01\0\0\0\0\0\0" + query[12:end], peer)

    def close(self):
        self.sock.close()


SEEN = """local function known(v) if v == nil or v == "" then return "none" end return tostring(v) end
local function seen(at, s, m)
  local auth, tls = s.auth or {}, s.tls or {}
  local facts = { s.ip, s.port, known(s.rdns), known(s.helo), s.esmtp, s.local_ip, s.local_port, known(auth.user), known(auth.method),
                  known(tls.version) }
  for i = 1, #facts do facts[i] = tostring(facts[i]) end
  log.info("seen " .. m.from.localpart .. " " .. at .. " " .. table.concat(facts, " "))
end
"""


class World:
    def __init__(self, identity):
        self.identity, self.backend, self.resolver = identity, Told(), Resolver()
        self.ports = {b"": free_port(), b"PROXY": free_port()}
        script = SEEN + "".join("function on.%s(s, m) seen(%r, s, m) end\n" % (stage, stage) for stage in STAGES)
        self.gateway = Gateway(CONF % (DNS % self.resolver.port, self.backend.address, identity, 'filter "seen.lua" { }',
                                       self.ports[b""], self.ports[b"PROXY"]), files={"seen.lua": script}).start()

    def close(self):
        self.backend.close()
        wrong = self.gateway.stop()
        self.resolver.close()
        assert not wrong, wrong


@pytest.fixture(scope="module", params=IDENTITIES)
def world(request):
    w = World(request.param)
    yield w
    w.close()


def say(client, line):
    client.send(line.encode() + b"\r\n")
    reply = client.reply()
    assert reply[0] in "23", (line, reply)
    return reply


def converse(world, preface, steps):
    """Gives the port that the connection came from and the one it went to."""
    port = world.ports[preface[:5]]
    client = Client(port)
    client.send(preface)
    client.reply()
    for step in steps:
        if isinstance(step, str):
            say(client, step)
            continue
        say(client, "MAIL FROM:<%s@x.test>" % step[0])
        say(client, "RCPT TO:<1@y.test>")
        say(client, "DATA")
        client.send(b"Subject: x\r\n\r\nhi\r\n.\r\n")
        assert client.reply().startswith("250 2.0.0 taken")
    own = client.sock.getsockname()[1]
    say(client, "QUIT")
    client.expect_end()
    client.close()
    return own, port


def name_of(identity, who):
    """localhost is known where it is looked up, and that is where the backend is to hear it."""
    return None if identity == "proxy_v1" and who.name == "localhost" else who.name


def seen_by_filters(identity, who, own, port):
    values = (who.ip, who.port or own, name_of(identity, who), who.helo, str(who.esmtp).lower(), who.local[0], who.local[1] or port, who.user,
              "XCLIENT" if who.user else None, None)
    return " ".join("none" if v is None else str(v) for v in values)


def told_to_backend(identity, who, own, port, number):
    given, local = who.port or own, (who.local[0], who.local[1] or port)
    if identity == "proxy_v1":
        return "PROXY TCP4 %s %s %d %d" % (who.ip, local[0], given, local[1])
    word = "[UNAVAILABLE]"
    if identity == "xforward":
        return " ".join(["XFORWARD", "NAME=" + (who.name or word), "ADDR=" + who.ip, "PORT=%d" % given, "PROTO=" + who.proto,
                         "HELO=" + (who.helo or word), "IDENT=" + (who.ident or number), "SOURCE=" + who.source])
    attributes = ["XCLIENT", "NAME=" + (who.name or word), "REVERSE_NAME=" + (who.name or word), "ADDR=" + who.ip, "PORT=%d" % given,
                  "PROTO=" + who.proto] + (["HELO=" + who.helo] if who.helo else [])
    return " ".join(attributes + (["LOGIN=" + who.user] if who.user else []) + ["DESTADDR=" + local[0], "DESTPORT=%d" % local[1]])


def received(who, session, number):
    with_word = ("ESMTPA" if who.user else "ESMTP") if who.esmtp else "SMTP"
    return "Received: from %s ([%s]) by mx.test (Sluice) with %s id %s.%d for <1@y.test>; " % (
        who.helo or "unknown", who.ip, with_word, session, number)


def log_line(identity, who, listen, own):
    """Without a name: rdns= is there where it was looked up."""
    name = name_of(identity, who)
    return r"listen=%s client=%s port=%d %s helo=%s tls= auth=%s from=" % (
        listen, who.ip, who.port or own, "(?:rdns=)?" if name is None else "rdns=" + name, who.helo or "", who.user or "")


@pytest.mark.parametrize("name", SESSIONS)
def test_all_speak_of_the_same_client(world, name):
    preface, steps = SESSIONS[name]
    before = len(world.gateway.written())
    own, port = converse(world, preface, steps)
    log = world.gateway.log()[before:]
    messages = [s for s in steps if not isinstance(s, str)]
    for sender, who in messages:
        line = next(l for l in log.splitlines() if "event=msg" in l and "from=<%s@x.test>" % sender in l)
        session, number = re.search(r" id=(\w+)\.(\d+) ", line).groups()
        facts = re.findall(r'msg="seen %s (\w+) ([^"]*)"' % sender, log)
        assert facts == [(stage, seen_by_filters(world.identity, who, own, port)) for stage in STAGES], sender
        expected = log_line(world.identity, who, "p" if preface else "l", own).replace(" (?:rdns=)?", "(?: rdns=)?")
        assert re.search(expected, line), "%s\n%s" % (expected, line)
        message = world.backend.messages[sender]
        told = " ".join(" ".join(lines) for lines in message["told"].values())
        assert told.replace(" XFORWARD ", " ") == told_to_backend(world.identity, who, own, port, "%s.%s" % (session, number)), sender
        field = " ".join(message["content"].split("\r\nSubject")[0].split())
        assert field.startswith(received(who, session, int(number))), field


LEAVES = {"RSET": ["RSET"], "EHLO": ["EHLO self.test"], "another XFORWARD": ["RSET"] + FORWARD_1 + ["RSET"],
          "XCLIENT": ["RSET"] + XCLIENT + XCLIENT_2}


@pytest.mark.parametrize("name", LEAVES)
def test_a_look_up_under_way_ends_with_its_client(world, name):
    """The name of a forwarded address is asked for at MAIL and never told. Whoever comes next does not wait for it, and is not called by it."""
    client = Client(world.ports[b""])
    client.reply()
    say(client, "EHLO self.test")
    for _ in range(3):
        say(client, "XFORWARD ADDR=192.0.2.33 PORT=3300")
        say(client, "MAIL FROM:<x@x.test>")
        for line in LEAVES[name]:
            client.sock.settimeout(3 * SLOW)
            say(client, line)
        if name == "XCLIENT":
            break
    client.sock.settimeout(3 * SLOW)
    say(client, "MAIL FROM:<next@x.test>")
    say(client, "QUIT")
    client.expect_end()
    line = [l for l in world.gateway.log().splitlines() if "event=msg" in l and "from=<next@x.test>" in l][-1]
    assert ("rdns=other.test" if name == "XCLIENT" else "client=127.0.0.1 ") in line and "192.0.2.33" not in line, line
