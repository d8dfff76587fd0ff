"""As test_fail_nth.py, through a run in which it matters whose the mail is: PROXY headers in front (v1, v2, in pieces), XCLIENT and XFORWARD
of a trusted peer, AUTH (at once, step by step, refused, given up, refused by a filter), and the client's identity told to the backend by
XCLIENT, XFORWARD, PROXY v1 and v2. Several sessions stand open beside each other.

Each time: at most one session suffers, and hears a 4yz or loses its connection; no 235, 535 or 501 that the backend (or the filter) did not
say to this user; a backend never sees a MAIL under another client's address, port, name or login (insider.py judges each); what follows an
AUTH that failed is nobody's."""
import hashlib
import re
import socket
import ssl
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port
from house import Dns, eventually
from insider import Insider, Who, b64, name_of, plain, preface
from nth import ALL, Deferred, ask, descriptors, good, only_where_faults_are, server_context, settles, walk  # noqa: F401
from sink import Talker

KINDS = ["op", "dial", "accept", "read", "write", "dns", "tls", "memory"]
THIN = {"op": 17, "memory": 130, "write": 31, "read": 37, "dial": 5, "dns": 9, "accept": 6, "tls": 2}  # in CI each so-manieth
PROXIED = 'proxy = { "127.0.0.1" }, limits = { connections_per_client = 1 }'
SCRIPT = """local st = store()
function on.connect(s) st:incr("connections", 1, "1m") end
function on.auth(s, user, method)
  sleep "1ms"
  st:set("last", user, "1m")
  if user:find("barred", 1, true) then return reject("535 5.7.8 barred %s", user) end
end
function on.mail(s, m, from)
  local list, why = dns.txt(s.helo, { timeout = "2s" })
  if not list then return defer("451 4.3.0 dns says %s", why) end
  local r = st:rate("mail:" .. s:who(), 100000, "1h")
  if not r.ok then return defer "450 4.7.1 slow down" end
end
function on.headers(s, m)
  m.headers:add("X-Who", string.format("%s %s %s", tostring(s.ip), s.helo, s.auth and s.auth.user or "nobody"))
end
"""


class World:
    BACKENDS = {"none": "pool = 2", "xclient": 'identity = "xclient", pool = 2', "xforward": 'identity = "xforward", pool = 2',
                "proxy": 'identity = "proxy", tls = "opportunistic", pool = 2',
                "proxy_v1": 'identity = "proxy_v1", tls = "opportunistic", tls_implicit = true, pool = 2'}

    def __init__(self):
        folder = certificate()
        self.clients, self.sent, self.serial, self.zone = {}, {}, 0, {}
        self.dns = Dns({})
        self.sinks, self.ports = {}, {}
        for how in self.BACKENDS:
            context = server_context() if how.startswith("proxy") else None
            self.sinks[how] = Insider(how, self.clients, self.sent, context, how == "proxy_v1")
        lines = ['hostname "mx.test"\nworkers(1)\ncontrol "control"\n%s\nlimits { errors = 1000 }\n'
                 'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\nchain "c" { filter "who.lua" {} }\n'
                 'route "r" { ["none.test"] = "none", ["xclient.test"] = "xclient", ["proxy.test"] = "proxy" }' % (self.dns.conf(), folder, folder)]
        for how, more in self.BACKENDS.items():  # a place or a client that is never given back would be missed
            lines.append('backend "%s" { "127.0.0.1:%d", %s, health = 0, fall = 100, connections = 5, wait = "1s" }'
                         % (how, self.sinks[how].port, more))
            for name, trust in ((how, PROXIED), (how + "-named", 'xclient = { "127.0.0.1" }, xforward = { "127.0.0.1" }'),
                                (how + "-route", 'route = "r", ' + PROXIED)):
                self.ports[name] = free_port()
                lines.append('listen "%s" { "127.0.0.1:%d", backend = "%s", chain = "c", tls = "t", received = false, auth = "offer", %s, '
                             'auth_without_tls = %s, '
                             'timeouts = { connect = "2s", banner = "2s", helo = "2s", mail = "2s", rcpt = "2s", data_reply = "2s", '
                             'end_reply = "4s", end_by = "3s" } }'
                             % (name, self.ports[name], how, trust, str(how != "xclient").lower()))
        self.gateway = Gateway("\n".join(lines) + "\n", files={"who.lua": SCRIPT})

    def begin(self):
        self.gateway.start()
        assert self.run() == EXPECTED

    def client(self, at, **more):
        self.serial += 1
        n, nth = self.serial, self.serial % len(EXPECTED) + 1  # from the same addresses each time: who is counted twice is over the limit
        ip = "2001:db8::%x" % nth if nth % 5 == 0 else "198.18.0.%d" % nth
        who = Who(n, ip, 1024 + n % 60000, "h%d.test" % n, at=at.split("-")[0])
        self.clients[n] = who
        self.zone[who.helo, 16] = ["yes"]
        if ":" not in ip:
            name = name_of(ip)
            self.zone[".".join(reversed(ip.split("."))) + ".in-addr.arpa", 12], self.zone[name, 1] = [name], [ip]
        self.dns.zone = dict(self.zone)  # as a whole: its thread walks it
        return Session(self, at, who, **more)

    def run(self):
        """What each session heard, by its name."""
        self.zone, outcomes = {}, {}
        for group in GROUPS:
            alive = []
            for name, (play, at, more) in group.items():
                session = self.client(at, **more)
                outcomes[name] = session.outcomes
                alive.append((session, play(session)))
            while alive:
                alive = [(s, steps) for s, steps in alive if s.goes_on(steps)]
        for sink in self.sinks.values():
            assert not sink.wrong, sink.wrong
            sink.visits.clear()
        return outcomes

    def end(self):
        for sink in self.sinks.values():
            sink.close()
        log = self.gateway.log()
        wrong = self.gateway.stop()
        assert not wrong, wrong
        assert "secret-" not in log and b64(b"secret-")[:-2].decode() not in log


class Session:
    def __init__(self, world, at, who, version=1, secure=False, vouched=False, pieces=False):
        self.world, self.at, self.who = world, at, who
        self.version, self.secure, self.vouched, self.pieces = version, secure, vouched, pieces
        self.sink = world.sinks[at.split("-")[0]]
        self.peer, self.outcomes, self.messages = None, [], 0

    def goes_on(self, steps):
        """One step of the play; False: it is over."""
        try:
            next(steps)
            return True
        except StopIteration:
            if self.peer:
                try:
                    self.peer.say(b"QUIT")
                except OSError:
                    pass
        except Deferred as e:
            self.outcomes.append("lost" if e.args[0].startswith(b"421") else "4yz")
        except (ConnectionError, ssl.SSLError):
            self.outcomes.append("lost")
        if self.peer:
            self.peer.file.close()
            self.peer.close()
        return False

    def say(self, line):
        return self.peer.say(line)

    def hello(self):
        self.peer = Talker(self.world.ports[self.at])
        self.peer.sock.settimeout(20 * SLOW)
        if not self.at.endswith("-named"):
            header = preface(self.version, self.who.ip, self.who.port, self.vouched)
            for piece in (header[:9], header[9:]) if self.pieces else (header,):
                self.peer.sock.sendall(piece)
                time.sleep(0.005 if self.pieces else 0)
        good(self.peer.reply())
        good(self.say(b"EHLO " + self.who.helo.encode()))
        if self.secure:
            good(self.say(b"STARTTLS"))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.peer.sock = context.wrap_socket(self.peer.sock)
            self.peer.file = self.peer.sock.makefile("rb")
            good(self.say(b"EHLO " + self.who.helo.encode()))

    def heard(self, reply, user, own):
        """own: what may be said to this user, besides a 4yz; False: it was not."""
        if reply.startswith(b"421"):
            raise Deferred(reply)
        assert reply[:1] == b"4" or reply == own + b"\r\n", (reply, own)
        if reply.startswith(b"235"):
            assert user.decode() in self.sink.welcomed, reply
            self.who.user = user.decode()
        self.outcomes.append("4yz" if reply[:1] == b"4" else reply[:3].decode())

    def user(self, kind):
        user = b"%s%d" % (kind, self.who.serial)
        own = {b"bad": b"535 5.7.8 no ", b"barred": b"535 5.7.8 barred "}.get(kind, b"235 2.7.0 welcome ")
        return user, own + user

    def auth_plain(self, kind=b"u", initial=True):
        user, own = self.user(kind)
        reply = self.say(b"AUTH PLAIN" + (b" " + plain(user) if initial else b""))
        yield
        if not initial and reply.startswith(b"334"):
            assert reply == b"334 \r\n", reply
            reply = self.say(plain(user))
        self.heard(reply, user, own)
        yield

    def auth_login(self, kind=b"u", gives_up=False):
        user, own = self.user(kind)
        reply = self.say(b"AUTH LOGIN")
        for asked, word in ((b"Username:", user), (b"Password:", b"secret-" + user)):
            yield
            if not reply.startswith(b"334"):
                break
            assert reply == b"334 %s\r\n" % b64(asked), reply
            reply = self.say(b64(word))
            if gives_up and reply.startswith(b"334"):
                reply, own = self.say(b"*"), b"501 5.7.0 as you like"
                break
        self.heard(reply, user, own)
        yield

    def in_one(self, lines):
        """Pipelined. What was refused with a 4yz, when all is answered."""
        self.peer.sock.sendall(b"".join(line + b"\r\n" for line in lines))
        refused = None
        for _ in lines:
            reply = self.peer.reply()
            assert reply[:1] in (b"2", b"3", b"4") or refused and reply.startswith((b"503", b"554 5.5.1 No valid recipients")), (reply, refused)
            if reply[:1] == b"4":
                refused = refused or reply
            if reply.startswith(b"421"):
                raise Deferred(reply)
        if refused:
            assert not reply.startswith(b"354"), refused
            raise Deferred(refused)

    def message(self, size=200, to=None, pipelined=False):
        self.messages += 1
        name = b"n%d-%d" % (self.who.serial, self.messages)
        octets = b"X-Name: %s\r\nSubject: whose\r\n\r\n" % name + b"0123456789 abcdef\r\n" * (size // 18 + 1)
        self.world.sent[name] = hashlib.sha256(octets).hexdigest()
        try:
            lines = [b"MAIL FROM:<s%d@x.test>" % self.who.serial, b"RCPT TO:<b@%s.test>" % (to or "y").encode(), b"DATA"]
            for line in () if pipelined else lines:
                good(self.say(line))
                yield
            if pipelined:
                self.in_one(lines)
            self.peer.sock.sendall(octets + b".\r\n")
            good(self.peer.reply())
            outcome = "250"
        except Deferred as e:
            if e.args[0].startswith(b"421") or not self.say(b"RSET").startswith(b"250"):
                raise
            outcome = "4yz"
        sink = self.world.sinks[to] if to else self.sink
        with sink.lock:
            there = sink.taken.pop(name, 0)
        assert there == 1 if outcome == "250" else there <= 1, "%s heard %s and is there %d times" % (name, outcome, there)
        self.outcomes.append(outcome)
        yield


# ---- the plays

def authenticated(s):
    s.hello()
    yield from s.auth_plain()
    yield from s.message()
    yield from s.message(5000, pipelined=True)


def step_by_step(s):
    s.hello()
    yield from s.auth_login()
    yield from s.message()
    s.outcomes.append(good(s.say(b"RSET"))[:3].decode())
    yield from s.message()


def nobody(s):
    s.hello()
    yield
    yield from s.message()
    yield from s.message()


def refused_then_nobody(s):
    s.hello()
    yield from s.auth_plain(b"bad", initial=False)
    yield from s.auth_login(gives_up=True)
    yield from s.message()


def refused_then_good(s):
    s.hello()
    yield from s.message()
    yield from s.auth_login(b"bad")
    yield from s.auth_plain(initial=False)
    yield from s.message()


def barred(s):
    """The backend welcomes it, our filter does not."""
    s.hello()
    yield from s.auth_plain(b"barred")
    yield from s.message()


def elsewhere(s):
    """The connection that knows the user waits, while mail goes where nobody knows it, and where XCLIENT says it."""
    s.hello()
    yield from s.auth_plain()
    for to in (s.who.at, "none", "xclient", "proxy", s.who.at):
        yield from s.message(to=to, pipelined=to in ("xclient", "proxy"))


def dropped(s):
    """The backend leaves at once: by LOGIN the next connection is told who it is."""
    s.hello()
    yield from s.auth_plain()
    if s.who.user:
        s.sink.visits.pop(s.who.user).shutdown(socket.SHUT_RDWR)
        time.sleep(0.02)
    yield from s.message()


def named(s):
    """A trusted peer says whose it is, a login too."""
    s.hello()
    yield
    w = s.who
    good(s.say(b"XCLIENT ADDR=%s%s PORT=%d LOGIN=u%d" % (b"IPV6:" if ":" in w.ip else b"", w.ip.encode(), w.port, w.serial)))
    w.user = "u%d" % w.serial
    good(s.say(b"EHLO " + w.helo.encode()))
    yield
    yield from s.message()
    yield from s.message()


def forwarded(s):
    """Told anew with each transaction."""
    s.hello()
    for _ in range(2):
        w = s.who
        good(s.say(b"XFORWARD ADDR=%s%s PORT=%d HELO=%s" % (b"IPV6:" if ":" in w.ip else b"", w.ip.encode(), w.port, w.helo.encode())))
        yield
        yield from s.message(pipelined=True)


GROUPS = [
    {"plain": (authenticated, "none", {}), "login": (step_by_step, "none", {"version": 2, "pieces": True}), "nobody": (nobody, "none", {}),
     "refused": (refused_then_nobody, "none", {"version": 2})},
    {"x-plain": (authenticated, "xclient", {"version": 2, "vouched": True}), "x-tls": (step_by_step, "xclient", {"secure": True}),
     "x-nobody": (nobody, "xclient", {"version": 2}), "x-drop": (dropped, "xclient", {"version": 2, "vouched": True})},
    {"v2-plain": (authenticated, "proxy", {}), "v2-again": (refused_then_good, "proxy", {"version": 2, "secure": True}),
     "v1-login": (step_by_step, "proxy_v1", {"pieces": True}), "v1-nobody": (nobody, "proxy_v1", {})},
    {"f-plain": (authenticated, "xforward", {}), "f-nobody": (nobody, "xforward", {"version": 2}), "f-named": (forwarded, "xforward-named", {}),
     "x-named": (named, "xclient-named", {}), "barred": (barred, "none", {})},
    {"r-none": (elsewhere, "none-route", {}), "r-xclient": (elsewhere, "xclient-route", {"version": 2, "vouched": True}),
     "r-xforward": (elsewhere, "xforward-route", {"version": 2}), "r-proxy": (elsewhere, "proxy-route", {})}]
HEARD = {authenticated: ["235", "250", "250"], step_by_step: ["235", "250", "250", "250"], nobody: ["250", "250"],
         refused_then_nobody: ["535", "501", "250"], refused_then_good: ["250", "535", "235", "250"], barred: ["535", "250"],
         elsewhere: ["235"] + ["250"] * 5, dropped: ["235", "250"], named: ["250", "250"], forwarded: ["250", "250"]}
EXPECTED = {name: HEARD[play] for group in GROUPS for name, (play, _, _) in group.items()}


def check(kind):
    def look(n, struck, outcomes):
        hurt = {name: heard for name, heard in outcomes.items() if heard != EXPECTED[name]}
        assert len(hurt) <= struck, (n, hurt)
        if kind in ("op", "dns", "memory"):
            assert not any("lost" in heard for heard in hurt.values()), (n, hurt)
    return look


def is_at_rest(status):
    busy = re.findall(r"backend +\S+ +(\d+) connections? in use", status)
    return len(busy) == len(World.BACKENDS) and set(busy) == {"0"} and ", 0 sessions of" in status


@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_step_fails_and_nobodys_mail_is_anothers(kind):
    world = World()
    try:
        world.begin()
        before = descriptors(world.gateway)
        n, struck, worst = walk(world.gateway, kind, 1 if ALL else THIN.get(kind, 1), world.run, check(kind))
        ask(world.gateway, b"fail op 0")
        assert struck > 0, "this kind is never met"
        assert world.run() == EXPECTED
        settles(world.gateway, before)
        eventually(lambda: is_at_rest(ask(world.gateway, b"status")))
        print("\n%s: struck %d times up to n=%d, the longest run took %.1f s" % (kind, struck, n, worst))
    except Exception:
        print(world.gateway.log()[-3000:])
        raise
    finally:
        world.end()


def test_all_kinds_at_once_by_dice():
    """Faults behind faults: whatever becomes of a session, nobody's mail is another's."""
    world, heard = World(), {}
    try:
        world.begin()
        before = descriptors(world.gateway)
        for one_in in (1000, 200, 50):
            assert ask(world.gateway, b"fail any %d" % one_in).startswith("ok")
            over = time.monotonic() + (60 if ALL else 2)
            while time.monotonic() < over:
                for outcome in sum(world.run().values(), []):
                    heard[outcome] = heard.get(outcome, 0) + 1
            ask(world.gateway, b"fail op 0")
            assert world.run() == EXPECTED
        settles(world.gateway, before)
        eventually(lambda: is_at_rest(ask(world.gateway, b"status")))
        print("\nby dice:", heard)
    except Exception:
        print(world.gateway.log()[-3000:])
        raise
    finally:
        world.end()
