"""Every step that faces the system fails in turn: the n-th op, dial, accept, read, write, file step, question, handshake, allocation of a
script (proxy/base/fault.h), for n = 1, 2, 3 ... until a whole mixed run does not meet it any more. The run: filters in C and Lua with
ops, content held in memory and in a file, a dialled service, quarantine to a maildir, BDAT, TLS on both sides.

Each time: the process lives, each client hears 2yz or 4yz (or loses its connection, where that is what failed), nothing is acknowledged
that is not there whole, nothing is there twice; and at the end all is well again, and nothing has leaked.

In CI the n are thinned out where there are thousands; SLUICE_FAULTS=all walks them all."""
import glob
import hashlib
import os
import ssl

import probe
import pytest
from gateway import SLOW, SLUICE, Gateway, certificate, free_port, rewrite
from house import Dns
from mixed import Books
from nth import ALL, Deferred, ask, descriptors, good, only_where_faults_are, server_context, settles, walk  # noqa: F401
from service import Service, module
from sink import Talker

KINDS = ["op", "dial", "accept", "read", "write", "file", "dns", "tls", "memory"]
THIN = {"op": 5, "memory": 150, "write": 9, "read": 7, "file": 3}  # in CI each so-manieth
SCRIPT = """-- waits, counts, asks, adds
local st = store()
function on.mail(s, m, from)
  local r = st:rate("mail:" .. s:who(), 100000, "1h")
  if not r.ok then return defer "450 4.7.1 slow down" end
  st:set("last", from.addr, "1m")
end
function on.rcpt(s, m, to)
  local list, why = dns.txt("known.test", { timeout = "2s" })
  if not list and why ~= "servfail" and why ~= "timeout" and why ~= "limit" then return defer("451 4.3.0 dns says %s", why) end
  sleep "1ms"
  st:incr("rcpt", 1, "1m")
end
function on.headers(s, m)
  m.headers:add("X-Generation", m.headers:get("subject") or "none")
end
"""
LATE = """edits_late()
reads_body()
function on.message(s, m)
  local body = m:body { max = "64K" }
  m.headers:add("X-Late", tostring(body and #body))
  if m.from.localpart == "jail" then return quarantine "so it is" end
end
"""


class World:
    def __init__(self, *arguments):
        self.dns, self.service = Dns({("known.test", "txt"): ["yes"]}), Service()
        folder = certificate()
        self.sinks = [Books(slow=0), Books(slow=0, context=server_context(), can=("PIPELINING", "8BITMIME"))]
        self.port, self.serial = free_port(), 0
        conf = ('hostname "mx.test"\nworkers(1)\ncontrol "control"\nmodule "%s"\nmodule "%s"\n%s\n'
                'limits { hold_memory = "4K", errors = 1000 }\ntls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\n'
                'backend "b" { "localhost:%d", pool = 2, health = 0, fall = 100 }\n'
                'backend "t" { "127.0.0.1:%d", tls = "opportunistic", pool = 0, health = 0, fall = 100 }\n'
                'backend "jail" { "maildir:@DIR@/jail", health = 0, fall = 100, pool = 0 }\n'
                'route "r" { ["tls.test"] = "t", ["*"] = "b" }\n'
                'chain "c" { quarantine = "jail", filter "access" { sender = "senders" }, filter "service" { "inet:localhost:%d" },\n'
                '  filter "probe" { "mail: dns txt known.test", "rcpt: work upper", "headers: add X-Generation: 2", "headers: timer 1", '
                '"message: store incr k 1", "message: content 100", flags = { "reads_back" } },\n'
                '  filter "script.lua" {}, filter "late.lua" {} }\n'
                'listen "l" { "127.0.0.1:%d", route = "r", backend = "b", chain = "c", tls = "t", received = false, '
                'timeouts = { connect = "2s", banner = "2s", helo = "2s", mail = "2s", rcpt = "2s", data_reply = "2s", end_reply = "4s", end_by = "3s" } }\n'
                % (probe.built(SLUICE), module(), self.dns.conf(), folder, folder, self.sinks[0].port, self.sinks[1].port,
                   self.service.port, self.port))
        self.conf = conf
        self.gateway = Gateway(conf, files={"script.lua": SCRIPT, "late.lua": LATE, "senders": "never@x.test REJECT\n"})
        self.gateway.env["TMPDIR"] = self.gateway.folder
        self.gateway.arguments += arguments

    def ask(self, command):
        return ask(self.gateway, command)

    def end(self):
        self.service.close()
        for s in self.sinks:
            s.close()
        wrong = self.gateway.stop()
        assert not wrong, wrong

    def end_quietly(self):
        """Of a gateway that did not start."""
        self.service.close()
        for s in self.sinks:
            s.close()

    # ---- one mixed run

    def connect(self, secure):
        c = Talker(self.port)
        c.sock.settimeout(20 * SLOW)
        good(c.reply())
        good(c.say(b"EHLO client.test"))
        if secure:
            good(c.say(b"STARTTLS"))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            c.sock = context.wrap_socket(c.sock)
            c.file = c.sock.makefile("rb")
            good(c.say(b"EHLO client.test"))
        return c

    def message(self, c, sender=b"a", rcpt=b"b@y.test", size=100, bdat=False):
        """"250", "4yz" or "lost"; what the client heard holds."""
        self.serial += 1
        name = b"n%d" % self.serial
        octets = b"X-Name: %s\r\nSubject: nth\r\n\r\n" % name + b"0123456789 abcdef\r\n" * (size // 18 + 1)
        try:
            good(c.say(b"MAIL FROM:<%s@x.test>" % sender))
            good(c.say(b"RCPT TO:<%s>" % rcpt))
            if bdat:
                c.sock.sendall(b"BDAT %d LAST\r\n" % len(octets) + octets)
            else:
                good(c.say(b"DATA"))
                c.sock.sendall(octets + b".\r\n")
            good(c.reply())
            outcome = "250"
        except Deferred as e:
            outcome = "4yz"
            if e.args[0].startswith(b"421"):
                outcome = "lost"
            elif not c.say(b"RSET").startswith(b"250"):
                raise
        self.judge(name, octets, outcome)
        return outcome

    def copies(self, name):
        there = []
        for sink in self.sinks:
            with sink.lock:
                there += sink.taken.pop(name, [])
        for path in glob.glob(self.gateway.folder + "/jail/new/*"):
            with open(path, "rb") as f:
                octets = f.read()
            lines = [line for line in octets.split(b"\r\n") if not line.startswith((b"X-Generation:", b"X-Late:", b"Return-Path:"))]
            if lines[0] == b"X-Name: " + name:
                there.append(hashlib.sha256(b"\r\n".join(lines)).hexdigest())
                os.unlink(path)
        return there

    def judge(self, name, octets, outcome):
        there = self.copies(name)
        digest = hashlib.sha256(octets).hexdigest()
        assert all(t == digest for t in there), "%s is not whole" % name
        assert len(there) == 1 if outcome == "250" else len(there) <= 1, "%s heard %s and is there %d times" % (name, outcome, len(there))

    def run(self):
        """All messages on two connections, begun again where they were lost. The outcomes."""
        plan = [({}, {"size": 30000}, {"sender": b"jail", "size": 6000}, {"bdat": True, "size": 9000}, {"size": 5000}),
                ({"rcpt": b"b@tls.test"}, {"rcpt": b"b@tls.test", "size": 20000})]
        outcomes, c = [], None
        for secure, messages in enumerate(plan):
            for m in messages:
                try:
                    c = c or self.connect(secure)
                    outcomes.append(self.message(c, **m))
                except Deferred:
                    outcomes.append("4yz")
                    c = None
                except (ConnectionError, ssl.SSLError):
                    outcomes.append("lost")
                    c = None
                if outcomes[-1] == "lost":
                    c = None
            if c:
                try:
                    c.say(b"QUIT")
                except OSError:
                    pass
                c.file.close()
                c.close()
                c = None
        return outcomes


def check(kind):
    def look(n, struck, outcomes):
        if not struck:
            assert outcomes == ["250"] * 7, (n, outcomes)
            return
        assert outcomes.count("250") >= (2 if kind in ("read", "accept", "write", "tls") else 4), (n, outcomes)
        if kind not in ("read", "write", "accept", "tls", "dial"):
            assert "lost" not in outcomes, (n, outcomes)
    return look


@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_step_fails_and_nothing_is_lost_or_invented(kind):
    world = World()
    world.gateway.start()
    try:
        assert world.run() == ["250"] * 7
        before = descriptors(world.gateway)
        n, struck, worst = walk(world.gateway, kind, 1 if ALL else THIN.get(kind, 1), world.run, check(kind))
        world.ask(b"fail op 0")
        assert struck > 0, "this kind is never met"
        assert world.run() == ["250"] * 7
        settles(world.gateway, before)
        print("\n%s: struck %d times up to n=%d, the longest run took %.1f s" % (kind, struck, n, worst))
    except Exception:
        print(world.gateway.log()[-3000:])
        raise
    finally:
        world.end()


@pytest.mark.parametrize("kind,most", [("file", 60), ("memory", 100000)])
def test_a_start_that_meets_the_nth_fault_says_so_or_runs(kind, most):
    """What fails while the configuration is read is told, with exit code 1 or 2; or it is of no weight and the gateway runs."""
    n, refused = 1, 0
    while n <= most:
        world = World("--fail-nth", "%s:%d" % (kind, n))
        try:
            world.gateway.start()
            answer = world.ask(b"fail")
            world.end()
            if "did not strike" in answer:
                break
        except AssertionError as e:
            code = world.gateway.process.poll()
            assert code in (1, 2) and "Sanitizer" not in str(e) and "error" in str(e), (n, code, str(e))
            refused += 1
            world.end_quietly()
        n = n + 1 if kind == "file" or ALL else int(n * 1.6) + 1
    assert refused > 0
    print("\n%s: %d starts refused, up to n=%d" % (kind, refused, n))


def serves(port):
    c = Talker(port)
    c.sock.settimeout(10 * SLOW)
    c.hello()
    c.close()


@pytest.mark.parametrize("kind,growth", [("file", 1), ("memory", 1.01 if ALL else 1.8)])
def test_a_reload_that_meets_the_nth_fault_is_whole_or_refused(kind, growth):
    """Each reload comes with a new address and gives up the one before; a refused one leaves everything as it was."""
    world, n, refused, there = World(), 1, 0, None
    world.gateway.start()
    try:
        world.run()
        before = descriptors(world.gateway)
        while True:
            port = free_port()
            rewrite(world.gateway, world.conf + 'listen "more" { "127.0.0.1:%d", backend = "b" }\n' % port)
            assert world.ask(b"fail %s %d" % (kind.encode(), n)).startswith("ok")
            answer = world.ask(b"reload")
            struck = "did not" not in world.ask(b"fail")
            assert struck or answer.startswith("ok"), answer
            if answer.startswith("ok"):
                there = port
            else:
                refused += 1
                assert "error" in answer, answer
            world.ask(b"fail op 0")
            serves(world.port)
            if there:
                serves(there)
            if there != port:
                with pytest.raises(ConnectionRefusedError):
                    serves(port)
            if not struck:
                break
            n = max(n + 1, int(n * growth))
        assert world.run() == ["250"] * 7
        assert refused > 0 and descriptors(world.gateway) <= before + 8, (before, descriptors(world.gateway))
        print("\n%s: %d reloads refused, up to n=%d" % (kind, refused, n))
    finally:
        world.end()


def test_an_upgrade_that_meets_the_nth_fault_leaves_us_as_we_are():
    world, n = World(), 1
    world.gateway.start()
    try:
        while True:
            assert world.ask(b"fail file %d" % n).startswith("ok")
            answer = world.ask(b"upgrade")
            if "did not" in world.ask(b"fail"):
                break
            assert answer.startswith("no"), answer
            world.ask(b"fail op 0")
            assert world.run() == ["250"] * 7
            n += 1
        assert n > 1 and answer.startswith("ok"), answer
        world.gateway.follow()
        assert world.run() == ["250"] * 7
    finally:
        world.end()
