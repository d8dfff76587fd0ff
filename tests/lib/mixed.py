"""Mixed load that keeps its own books: every message has a name, the sink knows which it has taken and what was in it, and the client
asks the sink at once when it has heard 250. Sizes, TLS, BDAT, pipelining, refusals at each stage, filters that wait, clients that leave,
a backend that refuses, dawdles and dies."""
import hashlib
import random
import ssl
import threading
import time

from sink import Sink, Talker

OURS = (b"X-Generation:", b"X-Late:")  # fields that the filters add
SCRIPTS = {
    "mixed.lua": """local st = store()
function on.headers(s, m) m.headers:add("X-Generation", "%d") end
function on.mail(s, m, from)
  if from.localpart == "never" then return reject "550 5.7.1 never" end
  if from.localpart == "wait" then sleep "30ms" end
end
function on.rcpt(s, m, to)
  st:incr("all", 1, "1h")
  if to.localpart == "no" then return reject "550 5.1.1 no" end
  if to.localpart == "later" then return defer "450 4.2.0 later" end
  if to.localpart == "wait" then sleep "20ms" end
end
function on.body(s, m, chunk)
  if chunk.last and m.from.localpart == "wait" then sleep "10ms" end
end
function on.message(s, m)
  if m.from.localpart == "bad" then return reject "550 5.7.1 bad content" end
end
""",
    "late.lua": """edits_late()
function on.message(s, m)
  m.headers:add("X-Late", "yes")
  if m.from.localpart == "wait" then sleep "30ms" end
  if m.from.localpart == "jail" then return quarantine "it says so" end
end
""",
}


class Books(Sink):
    """Knows each message by its X-Name: the digests of what was taken, without the fields that the filters add."""

    def __init__(self, context=None, slow=0.02, **kw):
        super().__init__(**kw)
        self.context, self.slow = context, slow
        self.commands = None
        self.taken, self.count, self.octets = {}, 0, 0
        if context:
            self.can = (*self.can, "STARTTLS")

    def dawdle(self):
        if self.slow and self.random.random() < self.slow:
            time.sleep(self.random.random() * 0.2)

    def talk(self, sock, file):
        sock.sendall(b"220 books\r\n")
        pieces, envelope = [], False
        while True:
            line = file.readline()
            if not line:
                return
            verb = line[:4].upper()
            if verb in (b"MAIL", b"DATA") and self.unlucky():
                return self.die(sock)
            if verb in (b"EHLO", b"LHLO"):
                words = ["books"] + [c for c in self.can if c != "STARTTLS" or not isinstance(sock, ssl.SSLSocket)]
                sock.sendall("".join("250%s%s\r\n" % ("-" if i + 1 < len(words) else " ", w) for i, w in enumerate(words)).encode())
            elif verb == b"STAR":
                sock.sendall(b"220 go\r\n")
                sock = self.context.wrap_socket(sock, server_side=True)
                file = sock.makefile("rb")
            elif verb == b"XCLI":
                pieces, envelope = [], False
                sock.sendall(b"220 books\r\n")
            elif verb == b"RCPT" and b"<full@" in line:
                sock.sendall(b"452 4.2.2 full\r\n")
            elif verb == b"DATA" and envelope:
                sock.sendall(b"354 go\r\n")
                pieces = self.lines(file)
                if pieces is None or not self.keep(sock, pieces):
                    return
                pieces = []
            elif verb == b"BDAT":
                words = line.split()
                pieces.append(file.read(int(words[1])))
                if words[-1].upper() != b"LAST":
                    sock.sendall(b"250 ok\r\n")
                elif not self.keep(sock, b"".join(pieces).splitlines(True)):
                    return
                else:
                    pieces = []
            elif verb == b"QUIT":
                return sock.sendall(b"221 bye\r\n")
            else:
                if verb in (b"MAIL", b"RSET"):
                    pieces, envelope = [], False
                envelope = envelope or verb == b"RCPT"
                self.dawdle()
                sock.sendall(b"250 ok\r\n")

    def lines(self, file):
        lines = []
        while True:
            line = file.readline()
            if not line:
                return None
            if line == b".\r\n":
                return lines
            lines.append(line[1:] if line.startswith(b".") else line)

    def keep(self, sock, lines):
        self.dawdle()
        if self.unlucky():  # it has the message or it has not: it never said 250
            self.die(sock)
            return False
        end = lines.index(b"\r\n") if b"\r\n" in lines else len(lines)
        lines[:end] = [line for line in lines[:end] if not line.startswith(OURS)]
        name = next((line for line in lines if line.startswith(b"X-Name: ")), b"")[8:-2]
        if not name:  # somebody else's, at a port that once was another's
            sock.sendall(b"554 5.7.1 not for me\r\n")
            return True
        octets = b"".join(lines)
        with self.lock:
            self.count += 1
            self.octets += len(octets)
            self.taken.setdefault(name, []).append(hashlib.sha256(octets).hexdigest())
        sock.sendall(b"250 2.0.0 Ok: queued as B%d\r\n" % self.count)
        return True


class Unlike(AssertionError):
    pass


class Mixed(threading.Thread):
    """One visit after the other until world.over. world: over, ports {"plain", "held", "empty", "smtps"}, sinks, patience and
    pause (seconds), may_lose (connections may break), uncertain (those to the backend too)."""
    TEXT = (b"0123456789 " * 6 + b"text\r\n") * 3000

    def __init__(self, number, world, most=300000, name=b"m"):
        super().__init__(daemon=True)
        self.number, self.world, self.random, self.most, self.prefix = number, world, random.Random(number), most, name
        self.serial, self.acknowledged, self.refused, self.left, self.lost = 0, 0, 0, 0, 0
        self.wrong, self.unknown, self.took = [], set(), []  # unknown: left behind our end, or with it: there or not
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.session = None

    def run(self):
        while not self.world.over:
            try:
                self.visit()
            except Exception as e:  # noqa: BLE001: whatever it is, it should not have happened
                if isinstance(e, (ConnectionError, ssl.SSLError)) and self.world.may_lose:
                    self.lost += 1
                    time.sleep(0.02)
                    continue
                self.wrong.append("client %d, message %d: %s %r" % (self.number, self.serial, type(e).__name__, e))
                if len(self.wrong) > 5:
                    return

    def expect(self, reply, *codes):
        if not reply.startswith(codes):
            if getattr(self.world, "storm", False) and reply[:1] == b"4":
                raise ConnectionError(reply)  # put off, where nothing else would do: another connection
            raise Unlike("%r instead of %r" % (reply, codes))
        return reply

    def visit(self):
        where = self.random.choice(("plain", "plain", *self.world.ports))
        c = Talker(self.world.ports[where])
        try:
            c.sock.settimeout(self.world.patience)
            if where == "smtps":
                self.secure(c)
            self.expect(c.reply(), b"220")
            self.expect(c.say(b"EHLO client.test"), b"250")
            if where != "smtps" and self.random.random() < 0.2:
                self.expect(c.say(b"STARTTLS"), b"220")
                self.secure(c)
                self.expect(c.say(b"EHLO client.test"), b"250")
            for _ in range(self.random.randrange(1, 6)):
                if self.world.over or not self.message(c, where):
                    return
                time.sleep(self.random.random() * self.world.pause)
            self.expect(c.say(b"QUIT"), b"221")
        finally:
            c.file.close()
            c.close()

    def secure(self, c):
        c.sock = self.context.wrap_socket(c.sock, session=self.session if self.random.random() < 0.7 else None)
        c.file = c.sock.makefile("rb")
        self.session = c.sock.session

    def message(self, c, where):
        self.serial += 1
        name = b"%s-%d-%d" % (self.prefix, self.number, self.serial)
        size = min(self.most, self.random.choice((10, 1000, 1000, 3000, 10000, 30000, 150000, 300000)))
        at = self.random.randrange(4000)
        octets = b"X-Name: %s\r\nSubject: mixed\r\n\r\n.%s\r\n.\r\n" % (name, self.random.randbytes(8).hex().encode())
        octets += self.TEXT[at:at + size].strip() + b"\r\n"
        kind = self.random.random()
        sender = self.random.choice((b"a", b"a", b"a", b"wait", b"jail" if where == "held" else b"a"))
        if kind < 0.15:
            return self.refusal(c, where, octets)
        rcpt = self.random.choice((b"b@y.test", b"b@y.test", b"wait@y.test", b"b@tls.test"))
        began = time.monotonic()
        if self.random.random() < 0.5:
            c.sock.sendall(b"MAIL FROM:<%s@x.test>\r\nRCPT TO:<%s>\r\n" % (sender, rcpt))
            self.expect(c.reply(), b"250")
            heard = self.expect(c.reply(), b"250", b"4")
        else:
            self.expect(c.say(b"MAIL FROM:<%s@x.test>" % sender), b"250")
            heard = self.expect(c.say(b"RCPT TO:<%s>" % rcpt), b"250", b"4")
        if heard[:1] == b"4":
            return self.sorry(c)
        return self.chunks(c, name, octets, began) if kind > 0.75 else self.data(c, name, octets, began)

    def sorry(self, c):
        self.refused += 1
        self.expect(c.say(b"RSET"), b"250")
        return True

    def data(self, c, name, octets, began):
        if self.expect(c.say(b"DATA"), b"354", b"4")[:1] == b"4":
            return self.sorry(c)
        wire = octets.replace(b"\r\n.", b"\r\n..")
        leaves = self.random.random()
        if leaves < 0.04:
            self.left += 1
            c.sock.sendall(wire[:self.random.randrange(len(wire))])
            return False
        half = self.random.randrange(len(wire))
        c.sock.sendall(wire[:half])
        if self.random.random() < 0.1:
            time.sleep(self.random.random() * 0.1)
        self.unknown.add(name)
        c.sock.sendall(wire[half:] + b".\r\n")
        if leaves < 0.06:
            self.left += 1
            return False
        return self.judge(c.reply(), name, octets, began)

    def chunks(self, c, name, octets, began):
        at, pieces = 0, []
        for _ in range(self.random.randrange(3)):
            n = self.random.randrange(1 + (len(octets) - at) // 2)
            pieces.append(octets[at:at + n])
            at += n
        for piece in pieces:
            c.sock.sendall(b"BDAT %d\r\n" % len(piece) + piece)
        self.unknown.add(name)
        c.sock.sendall(b"BDAT %d LAST\r\n" % (len(octets) - at) + octets[at:])
        replies = [self.expect(c.reply(), b"250", b"4", b"503") for _ in range(len(pieces) + 1)]
        refused = [r for r in replies if r[:1] != b"2"]
        if refused:
            self.expect(refused[0], b"4")
        return self.judge(refused[0] if refused else replies[-1], name, octets, began)

    def judge(self, reply, name, octets, began):
        self.unknown.discard(name)
        if self.expect(reply, b"250", b"4")[:1] == b"4":
            self.refused += 1
            if reply[:3] == b"421":
                return False
            self.expect(self.ask(reply, name), b"4")
            return True
        copies = []
        for sink in self.world.sinks:
            with sink.lock:
                copies += sink.taken.pop(name, [])
        if copies != [hashlib.sha256(octets).hexdigest()]:
            raise Unlike("%s was acknowledged (%r) and is there as %r" % (name, reply, copies))
        self.acknowledged += 1
        self.took.append(time.monotonic() - began)
        return True

    def ask(self, reply, name):
        """The same reply; a message that was put off must not be there (what an unlucky backend took it has forgotten), unless the way to
        the backend loses its word."""
        if self.world.uncertain and reply.startswith(b"451 4.4.2"):  # it may still be under way
            self.unknown.add(name)
            return reply
        for sink in self.world.sinks:
            if name in sink.taken:
                raise Unlike("%s heard %r and is there" % (name, reply))
        return reply

    def refusal(self, c, where, octets):
        """Something is refused, by us or by the backend, as it should be."""
        how = self.random.choice(("never", "no", "later", "full", "bad", "junk", "reset"))
        self.refused += 1
        if how == "junk":
            for line, code in ((b"HELP", b"2"), (b"FOO", b"5"), (b"RCPT TO:<b@y.test>", b"503"), (b"NOOP", b"250"), (b"VRFY x", b"2")):
                self.expect(c.say(line), code)
            return True
        filtered = where != "empty"
        if how == "never":
            self.expect(c.say(b"MAIL FROM:<never@x.test>"), b"550" if filtered else b"250")
        else:
            self.expect(c.say(b"MAIL FROM:<%s@x.test>" % (b"bad" if how == "bad" else b"a")), b"250")
            local = {"no": b"no", "later": b"later", "full": b"full"}.get(how, b"b")
            good = how in ("bad", "reset") or not filtered and how != "full"
            codes = {"no": (b"550",), "later": (b"450",), "full": (b"452",)}.get(how, ())
            heard = self.expect(c.say(b"RCPT TO:<%s@y.test>" % local), *((b"250", b"4") if good else codes + (b"4",)))
            if how == "bad" and filtered and heard[:1] == b"2" and self.expect(c.say(b"DATA"), b"354", b"4")[:1] == b"3":
                self.expect(c.say(octets.replace(b"\r\n.", b"\r\n..") + b"."), b"550", b"4")
        self.expect(c.say(b"RSET"), b"250")
        return True


def leftovers(world, clients):
    """What is there that nobody was told of, and may not be."""
    unknown = set().union(*(c.unknown for c in clients))
    wrong = []
    for sink in world.sinks:
        with sink.lock:
            for name, copies in sink.taken.items():
                if name not in unknown or len(copies) > 1:
                    wrong.append("%s is there %d times" % (name.decode(), len(copies)))
    return wrong


def chains():
    """The chains of the listeners "plain" and "held"."""
    return ('chain "plain" { filter "access" { sender = { ["refused@"] = "REJECT" } }, filter "mixed.lua" {} }\n'
            'chain "held" { quarantine = "jail", filter "mixed.lua" { name = "mixed-2" }, filter "late.lua" {} }\n'
            'route "r" { ["tls.test"] = "t", ["*"] = "b" }\n')


def listeners(ports, more=""):
    lines = []
    for name, port in ports.items():
        chain = {"held": 'chain = "held", ', "empty": ""}.get(name, 'chain = "plain", ')
        to = 'backend = "%s", ' % name if name in IDENTITIES else 'backend = "b", route = "r", '
        lines.append('listen "%s" { "127.0.0.1:%d", %s%stls = "t", received = false, %s%s }\n'
                     % (name, port, to, chain, "implicit = true, " if name == "smtps" else "", more))
    return "".join(lines)


IDENTITIES = {"xclient": 'identity = "xclient"', "xforward": 'identity = "xforward"', "lmtp": 'protocol = "lmtp"'}
WORDS = ("XCLIENT NAME ADDR PROTO HELO", "XFORWARD NAME ADDR PROTO HELO SOURCE")  # what a sink behind them can


def identities(port):
    """A backend for each of them, all at the same sink."""
    return "".join('backend "%s" { "127.0.0.1:%d", %s, pool = 4, health = 0, fall = 100 }\n' % (name, port, how)
                   for name, how in IDENTITIES.items())
