"""Random clients against a random hostile backend through several filters. Nothing is expected of a single dialog but the promises:
the gateway lives, what was acknowledged is at the backend whole and was acknowledged there, nothing inside content becomes a command,
nobody waits longer than the gateway's clocks let him, and when all have gone nothing of them is left.

SLUICE_SOAK_SEED and SLUICE_SOAK_SECONDS choose another run. What threads do is not repeatable octet by octet; what they choose is."""
import hashlib
import os
import random
import re
import signal
import socket
import ssl
import struct
import threading
import time

from gateway import SLOW, Gateway, certificate, free_port, sanitized

SEED = int(os.environ.get("SLUICE_SOAK_SEED", "1"))
SECONDS = float(os.environ.get("SLUICE_SOAK_SECONDS", "15"))
CLIENTS = int(os.environ.get("SLUICE_SOAK_CLIENTS", "24"))
WAIT_MOST = 30 * SLOW  # seconds for a reply, or for room to send on: more than the clocks towards backends let anybody wait
INSIDE = b"VRFY inside-the-content"  # no client says this but in content
KNOWN = re.compile(rb"(EHLO|HELO|MAIL FROM:|RCPT TO:|DATA|BDAT|RSET|QUIT)", re.I)


ADDED = re.compile(rb"^X-(Edited|Late): yes\r\n", re.M)  # by the script


def digest(octets):
    if not octets.endswith(b"\r\n"):  # what came by BDAT may end anywhere; towards DATA it gets a line end
        octets += b"\r\n"
    return hashlib.sha256(ADDED.sub(b"", octets)).hexdigest()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Gone(Exception):
    pass


class Hostile:
    """Each connection has a temper: what it does wrong, and how often."""

    def __init__(self, seed):
        self.seed, self.lock = seed, threading.Lock()
        self.said_yes = {}      # number of a message -> digests that heard 250
        self.strange = []       # commands that the gateway never says
        self.commands = {}
        self.open, self.connections, self.closing = 0, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock, random.Random("%d/%d" % (self.seed, self.connections))), daemon=True).start()

    def serve(self, sock, rng):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(60)
        with self.lock:
            self.open += 1
        try:
            Temper(self, sock, rng).talk()
        except (OSError, Gone):
            pass
        finally:
            sock.close()
            with self.lock:
                self.open -= 1


class Temper:
    def __init__(self, all_, sock, rng):
        self.all, self.sock, self.rng = all_, sock, rng
        self.evil = rng.choice([0, 0, 0, 0.01, 0.05, 0.2])
        self.slow = rng.choice([0, 0, 0.01, 0.1])
        self.refuse = rng.choice([0, 0.1, 0.3])
        self.late_no = rng.choice([0, 0, 0.4])  # refuses DATA when much of the content waits already
        self.can = [c for c in (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"SIZE 3000000") if rng.random() < 0.9]
        if rng.random() < 0.6:
            self.can += [b"CHUNKING", b"BINARYMIME"][:rng.choice([1, 2, 2])]
        self.chunks, self.bad_chunk = [], False
        self.file = sock.makefile("rb")
        self.mad = False  # it gave a go-ahead that it does not keep, or an answer too many: what follows is its own fault

    def say(self, octets):
        rng = self.rng
        if self.slow:
            time.sleep(rng.random() * self.slow)
        if rng.random() < self.evil:
            what = rng.choice(["close", "reset", "421", "half", "garbage", "twice", "code", "nul", "long", "silence", "421 and on"])
            if what == "close":
                raise Gone
            if what == "reset":
                reset(self.sock)
                raise Gone
            if what == "421":
                self.sock.sendall(b"421 4.3.2 going\r\n")
                raise Gone
            if what == "half":
                self.sock.sendall(octets[:rng.randrange(len(octets))])
                raise Gone
            if what == "silence":
                time.sleep(rng.random() * 3)
                raise Gone
            if what == "421 and on":
                octets = b"421 4.3.2 going, or not\r\n"
            elif what == "garbage":
                octets = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300))) + b"\r\n"
            elif what == "twice":
                octets += octets
                self.mad = True
            elif what == "code":
                self.mad |= not octets.startswith(b"354")
                octets = b"%d words\r\n" % rng.choice([100, 200, 220, 251, 299, 334, 354, 399, 450, 503, 530, 552, 599, 600, 999])
            elif what == "nul":
                octets = octets[:3] + b" a\0b\r\n"
            elif what == "long":
                octets = octets[:3] + b"-" + b"x" * rng.choice([600, 5000]) + b"\r\n" + octets[:3] + b" x\r\n"
        if rng.random() < 0.1:
            for i in range(len(octets)):
                self.sock.sendall(octets[i:i + 1])
        else:
            self.sock.sendall(octets)
        return octets

    def talk(self):
        rng, mail, rcpts = self.rng, False, 0
        self.say(b"220 hostile\r\n")
        while True:
            line = self.file.readline(70000)
            if not line:
                return
            verb = line.strip()[:4].upper().decode("latin-1")
            self.all.commands[verb] = self.all.commands.get(verb, 0) + 1
            if (not KNOWN.match(line) or b"inside" in line) and line.endswith(b"\n") and not self.mad:
                self.all.strange.append(line[:200])
            if verb == "EHLO":
                words = [b"hostile"] + self.can
                self.say(b"".join(b"250%s%s\r\n" % (b"-" if w is not words[-1] else b" ", w) for w in words))
            elif verb == "MAIL":
                mail = rng.random() >= self.refuse / 3
                rcpts, self.chunks, self.bad_chunk = 0, [], False
                self.say(b"250 2.1.0 ok\r\n" if mail else rng.choice([b"450 4.1.8 later\r\n", b"552 5.3.4 big\r\n", b"550 no\r\n"]))
            elif verb == "RCPT":
                good = mail and rng.random() >= self.refuse
                rcpts += good
                self.say(b"250 2.1.5 ok\r\n" if good else rng.choice([b"450 4.2.1 later\r\n", b"550 5.1.1 no\r\n"]))
            elif verb == "DATA":
                if rcpts and rng.random() < self.late_no:
                    time.sleep(rng.random() * 0.2)
                    self.say(b"451 4.3.0 not now\r\n")
                elif not rcpts or rng.random() < self.refuse / 2:
                    self.say(b"554 5.5.1 no\r\n")
                elif self.say(b"354 go\r\n").startswith(b"354"):
                    self.content()
                    mail, rcpts = False, 0
            elif verb == "BDAT":
                words = line.split()
                octets, last = self.file.read(int(words[1])), len(words) > 2
                if len(octets) < int(words[1]):
                    return
                self.chunk(octets, last, rcpts)
                if last:
                    mail, rcpts = False, 0
            elif verb == "RSET":
                mail, rcpts, self.chunks, self.bad_chunk = False, 0, [], False
                self.say(b"250 ok\r\n")
            elif verb == "QUIT":
                self.sock.sendall(b"221 bye\r\n")
                return
            else:
                self.say(b"250 ok\r\n")

    def content(self):
        rng, lines = self.rng, []
        pest = rng.randrange(200) if rng.random() < self.evil else -1
        while True:
            line = self.file.readline()
            if not line:
                return
            if line == b".\r\n":
                break
            if len(lines) == pest:
                self.sock.sendall(rng.choice([b"250 2.0.0 early\r\n", b"550 5.7.1 no more\r\n", b"421 4.3.2 bye\r\n", b"354 go\r\n", b"25"]))
            lines.append(line[1:] if line.startswith(b".") else line)
            if self.slow and len(lines) % 400 == 0:
                time.sleep(self.slow)
        self.judge(b"".join(lines))

    def chunk(self, octets, last, rcpts):
        rng = self.rng
        if self.slow:
            time.sleep(self.slow)
        if not rcpts or self.bad_chunk:
            self.say(b"503 5.5.1 no\r\n")
        elif not last and rng.random() < self.refuse / 8:
            self.bad_chunk = True
            self.say(rng.choice([b"552 5.2.2 full\r\n", b"451 4.3.0 later\r\n"]))
        elif not last:
            self.chunks.append(octets)
            self.say(b"250 2.0.0 early\r\n")
        else:
            self.judge(b"".join(self.chunks) + octets)

    def judge(self, octets):
        rng = self.rng
        if rng.random() < self.refuse / 2:
            self.say(rng.choice([b"550 5.7.1 no\r\n", b"451 4.3.0 later\r\n"]))
            return
        # Counted before it is said: the client may hear of it at once. What is said instead is no yes, but counts for none either.
        found = re.search(rb"X-Number: (\S+)", octets)
        with self.all.lock:
            self.all.said_yes.setdefault(found.group(1) if found else b"?", []).append(digest(octets))
        self.say(b"250 2.0.0 Ok: queued as Q\r\n")


class Client(threading.Thread):
    """Dialogs one after the other until the time is over; each is right or wrong in some way."""

    def __init__(self, port, tls, seed, until):
        super().__init__(daemon=True)
        self.port, self.tls, self.seed, self.until = port, tls, seed, until
        self.rng = random.Random("client/%d" % seed)
        self.count = 0
        self.yes = {}    # number -> digest of what was sent
        self.wrong = []
        self.dialogs = 0

    def run(self):
        while time.monotonic() < self.until:
            self.dialogs += 1
            self.sock = None
            try:
                self.dialog()
            except TimeoutError:
                self.wrong.append("client %d, dialog %d: nothing for %d s" % (self.seed, self.dialogs, WAIT_MOST))
            except (OSError, Gone):
                pass
            except Exception as e:  # nothing of the gateway's may look like this
                self.wrong.append(repr(e))
            if self.sock:
                if self.rng.random() < 0.3:
                    reset(self.sock)
                else:
                    self.sock.close()

    # ---- the wire

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port), 30)
        self.sock.settimeout(WAIT_MOST)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, octets):
        """In one piece, or split at random, or with less of it and then the end."""
        rng = self.rng
        how = rng.random()
        if how < 0.02:
            self.sock.sendall(octets[:rng.randrange(len(octets) + 1)])
            if rng.random() < 0.5:
                self.sock.shutdown(socket.SHUT_WR)
                while self.sock.recv(65536):
                    pass
            raise Gone
        if how < 0.3:
            at = 0
            while at < len(octets):
                n = rng.choice([1, 2, 3, 17, 500, 4096, 70000])
                n = max(n, len(octets) // 20)
                self.sock.sendall(octets[at:at + n])
                at += n
                if rng.random() < 0.2:
                    time.sleep(rng.random() * 0.01)
        else:
            self.sock.sendall(octets)

    def reply(self):
        lines = []
        while True:
            while b"\r\n" not in self.buffer:
                more = self.sock.recv(65536)
                if not more:
                    raise Gone
                self.buffer += more
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            if not re.match(rb"[245-][0-9][0-9][ -]|354 |354-", line):
                raise ValueError("no reply: %r" % line)
            lines.append(line)
            if line[3:4] == b" ":
                if line[:3] in (b"421", b"521"):
                    raise Gone
                return b"\n".join(lines)

    def ask(self, line):
        self.send(line + b"\r\n")
        return self.reply()

    # ---- what is said

    def dialog(self):
        rng = self.rng
        self.connect()
        early = rng.random() < 0.05
        if early:
            self.send(b"EHLO early\r\n")
        if not self.reply().startswith(b"220") or early:
            return
        if rng.random() < 0.05:
            self.noise()
            return
        hello = rng.choice([b"EHLO", b"EHLO", b"EHLO", b"HELO"])
        heard = self.ask(hello + b" client%d.test" % rng.randrange(5))
        if b"STARTTLS" in heard and rng.random() < 0.3:
            if rng.random() < 0.1:
                self.send(b"STARTTLS\r\nMAIL FROM:<injected@x.test>\r\n")
                self.reply()
                return
            if self.ask(b"STARTTLS").startswith(b"220"):
                self.sock = self.tls.wrap_socket(self.sock, server_hostname="localhost")
                self.ask(b"EHLO client.test")
        for _ in range(rng.randrange(1, 6)):
            pipelined = hello == b"EHLO" and rng.random() < 0.6
            if hello == b"EHLO" and rng.random() < 0.4:
                self.chunked(pipelined, b"BINARYMIME" in heard)
            else:
                self.transaction(pipelined)
            if rng.random() < 0.1:
                self.ask(rng.choice([b"RSET", b"NOOP", b"VRFY x", b"EHLO again", b"HELP", b"nonsense", b"x" * 5000]))
        if rng.random() < 0.7:
            self.ask(b"QUIT")

    def noise(self):
        rng = self.rng
        for _ in range(rng.randrange(1, 30)):
            self.send(bytes(rng.randrange(256) for _ in range(rng.randrange(200))) + rng.choice([b"\r\n", b"\n", b"\r", b""]))
        self.sock.shutdown(socket.SHUT_WR)
        while self.sock.recv(65536):
            pass

    def envelope(self):
        rng = self.rng
        sender = rng.choice([b"", b"a@x.test", b"refused@x.test", b"b%d@x.test" % rng.randrange(100), b"x" * 300 + b"@x.test"])
        params = rng.choice([b"", b"", b"", b" SIZE=1000", b" BODY=8BITMIME", b" SIZE=999999999", b" NONSENSE=1"])
        n = rng.choice([1, 1, 1, 2, 5, 20, 70, 150])
        rcpts = [rng.choice([b"RCPT TO:<r%d@y.test>", b"RCPT TO:<s%d@y.test>", b"RCPT TO:<wait%d@y.test>", b"RCPT TO:<drop%d@y.test>",
                             b"RCPT TO:<add%d@y.test>", b"RCPT TO:<sender%d@y.test>", b"RCPT TO:r%d"][:rng.choice([2, 2, 3, 7])])
                 % rng.randrange(1000) for _ in range(n)]
        return [b"MAIL FROM:<%s>%s" % (sender, params)] + rcpts

    def transaction(self, pipelined):
        rng, lines = self.rng, self.envelope()
        if pipelined:
            self.send(b"\r\n".join(lines) + b"\r\nDATA\r\n")
            if rng.random() < 0.02:
                self.send(b"Subject: early content\r\n\r\n%s\r\n.\r\n" % INSIDE)
                pipelined = "early"  # whatever comes of it
            replies = [self.reply() for _ in range(len(lines) + 1)]
        else:
            replies = []
            for line in lines[:rng.choice([1, 2, 10, 10])]:
                replies.append(self.ask(line))
            replies.append(self.ask(b"DATA"))
        if pipelined == "early":
            raise Gone
        if not replies[-1].startswith(b"354"):
            heard = self.ask(b"RSET")
            if not heard.startswith(b"250"):
                raise ValueError("RSET refused: %r after %r and %r" % (heard, lines[:2] + lines[-1:], replies[-3:]))
            return
        self.content()

    def chunked(self, pipelined, may_be_binary):
        """A transaction by BDAT: the content cut anywhere, said behind the envelope or step by step."""
        rng, lines = self.rng, self.envelope()
        number, parts = self.make()
        text = b"\r\n".join(parts) + b"\r\n"
        bare = False
        if may_be_binary and rng.random() < 0.4:
            lines[0] += b" BODY=BINARYMIME"
            text += rng.choice([b"\n.\r\n", b"\r", b"\0\n\r\n", bytes(rng.randrange(256) for _ in range(rng.randrange(2000)))])
        elif rng.random() < 0.05:
            bare = True
            text += rng.choice([b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r"]) + b"MAIL FROM:<inside@x.test>\r\n"
        elif rng.random() < 0.3:
            text = text[:-2]
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.choice([0, 0, 1, 2, 9])))
        pieces = [text[a:b] for a, b in zip([0] + cuts, cuts + [len(text)])]
        words = [b"BDAT %d%s\r\n%s" % (len(p), b" LAST" if i + 1 == len(pieces) else b"", p) for i, p in enumerate(pieces)]
        if pipelined:
            self.send(b"\r\n".join(lines) + b"\r\n" + b"".join(words))
            replies = [self.reply() for _ in range(len(lines) + len(words))][len(lines):]
        else:
            for line in lines[:rng.choice([1, 2, 10, 10])]:
                self.ask(line)
            replies = []
            for word in words:
                if replies and replies[-1].startswith(b"250") and rng.random() < 0.04:  # amid chunks all of it is 503
                    self.ask(rng.choice([b"NOOP", b"RCPT TO:<x@y.test>", b"DATA", b"MAIL FROM:<>"]))
                if rng.random() < 0.01:
                    self.ask(rng.choice([b"BDAT", b"BDAT x LAST", b"RSET"]))
                    return
                self.send(word)
                replies.append(self.reply())
        heard = replies[-1]
        if heard.startswith(b"250"):
            if any(not r.startswith(b"250") for r in replies):
                self.wrong.append("a chunk was refused, and the message taken: %r" % replies)
            if bare and not (self.late and heard == b"250 2.0.0 Ok"):
                self.wrong.append("bare line ends were taken: %r" % heard)
            self.yes[number] = (digest(text), heard)

    def make(self):
        rng = self.rng
        self.count += 1
        number = b"%d-%d" % (self.seed, self.count)
        lines = [b"X-Number: " + number, b"Subject: soak"]
        lines += [b"X-Do: " + rng.choice([b"nothing", b"nothing", b"reject", b"defer", b"edit", b"wait", b"late", b"quarantine"])]
        lines += [b"X-Field-%d: %s" % (i, b"v" * rng.randrange(200)) for i in range(rng.choice([0, 0, 3, 100]))]
        lines.append(b"")
        size, octets = rng.choice([0, 10, 1000, 60000, 400000]), 0
        if rng.random() < 0.1:  # more than all pipes and bounds hold, and now and then more than is taken
            size = rng.choice([1000000, 2000000, 5000000])
        while octets < size:
            line = rng.choice([b"", b".", b"..", b".x", INSIDE, b"QUIT", b"text " * rng.randrange(30), b"\xe4" * 70, b"y" * rng.choice([998, 5000])])
            lines.append(line)
            octets += len(line) + 2
        return number, lines

    def content(self):
        rng = self.rng
        number, lines = self.make()
        text = b"\r\n".join(lines) + b"\r\n"
        wire = b"".join((b"." if l.startswith(b".") else b"") + l + b"\r\n" for l in lines)
        bare = rng.random() < 0.05
        if bare:  # an end that is none, and what it would smuggle
            wire += rng.choice([b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\n.\n", b"\r\n.\r"]) + b"MAIL FROM:<inside@x.test>\r\n" + INSIDE + b"\r\n"
        if rng.random() < 0.05:
            self.send(wire)
            raise Gone
        self.send(wire + b".\r\n")
        if rng.random() < 0.03:
            raise Gone
        heard = self.reply()
        if heard.startswith(b"250"):
            if bare and not (self.late and heard == b"250 2.0.0 Ok"):  # a message that is discarded is read to its strict end
                self.wrong.append("bare line ends were taken: %r" % heard)
            self.yes[number] = (digest(text), heard)


SCRIPT = """
edits_late()
local st = store()
local n = 0
function on.mail(s, m, from)
  n = n + 1
  if n % 7 == 0 then sleep "20ms" end
  if from.addr == "refused@x.test" then return reject("550 5.7.1 not you") end
end
function on.rcpt(s, m, to)
  local u = to.localpart
  if u:find("^wait") then sleep "10ms"; st:incr("w", 1, "1h") end
  if u:find("^add") then m:add_rcpt "added@y.test" end
  if u:find("^drop") then return discard("left out") end
  if u:find("^sender") then m:set_from("other@x.test") end
  if u:find("^s.*7") then return defer("450 4.2.1 later") end
end
function on.headers(s, m)
  local what = m.headers:get "X-Do"
  if what == "reject" then return reject("554 5.7.1 no") end
  if what == "wait" then sleep "30ms"; st:rate("r", 1000000, "1h") end
end
function on.message(s, m)
  local what = m.headers:get "X-Do"
  if what == "defer" then return defer("451 4.7.1 later") end
  if what == "late" then sleep "20ms"; m.headers:add("X-Late", "yes") end
  if what == "edit" then m.headers:add("X-Edited", "yes", "top") end
  if what == "quarantine" then return quarantine("for the test") end
end
"""
HEADERS = """
function on.headers(s, m)
  if m.headers:get "X-Do" == "reject" then return reject("554 5.7.1 no") end
end
"""
WATCH = """
function on.body(s, m, chunk)
  if #chunk > 15000 then sleep "1ms" end
end
function on.headers(s, m)
  if m.headers:get "X-Do" == "reject" then return reject("554 5.7.1 no") end
end
"""
REWRITE = """
edits_body()
function on.body(s, m, chunk)
  chunk:replace(chunk:text())
end
"""
CHAINS = {
    "none": "",
    "headers": 'filter "headers.lua" { }',
    "rewrite": 'filter "rewrite.lua" { }, filter "again.lua" { }, filter "watch.lua" { }',
    "early": 'filter "access" { sender = { ["b7@x.test"] = "REJECT no" } }, filter "ratelimit" { by = "ip", limit = 1000000, window = "1h" }',
    "body": 'filter "access" { sender = { ["b7@x.test"] = "REJECT no" } }, filter "watch.lua" { }',
    "late": 'quarantine = "q", filter "access" { sender = { ["b7@x.test"] = "REJECT no" } }, filter "random.lua" { },'
            ' filter "watch.lua" { observe = true }',
}


def world(sink, quarantine):
    ports, listens = [], []
    for i, (name, chain) in enumerate(sorted(CHAINS.items())):
        ports.append(free_port())
        listens.append('chain "%s" { %s }\nlisten "%s" { "127.0.0.1:%d", backend = "b", chain = "%s", tls = "t", received = false, '
                       'limits = { connections_per_client = 0, errors = 50, size = "4M" } }\n' % (name, chain, name, ports[-1], name))
    cert = certificate("localhost")
    conf = ('hostname "mx.test"\nworkers(2)\n'
            'timeouts { command = "5m", data = "5m", drain = "2s", connect = "2s", banner = "2s", helo = "2s", mail = "2s",\n'
            '  rcpt = "2s", data_reply = "2s", block = "5s", end_by = "4s", end_reply = "8s" }\n'
            'tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\n'
            'backend "b" { "127.0.0.1:%d", { "localhost:%d", weight = 2 }, connections = 12, wait = "2s", health = "500ms" }\n'
            'backend "q" { "127.0.0.1:%d" }\n%s'
            % (cert, cert, sink.port, sink.port, quarantine.port, "".join(listens)))
    return Gateway(conf, files={"random.lua": SCRIPT, "watch.lua": WATCH, "headers.lua": HEADERS, "rewrite.lua": REWRITE, "again.lua": REWRITE}), ports


def descriptors(gateway):
    return len(os.listdir("/proc/%d/fd" % gateway.process.pid))


def go(ports, tls, seeds, seconds):
    until = time.monotonic() + seconds
    clients = [Client(ports[seed % len(ports)], tls, seed, until) for seed in seeds]
    for c in clients:
        c.late = sorted(CHAINS)[c.seed % len(ports)] == "late"
    for c in clients:
        c.start()
    for c in clients:
        c.join(seconds + 60 * SLOW)
        assert not c.is_alive(), "client %d still waits" % c.seed
    return clients


def test_random_clients_and_a_random_backend_leave_every_promise_kept():
    sink, quarantine = Hostile(SEED), Hostile(SEED + 1)
    gateway, ports = world(sink, quarantine)
    gateway.start()
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    first = SEED * 10000
    clients = go(ports, tls, range(first, first + CLIENTS), SECONDS / 3)
    rss, fds = quiet(gateway)
    clients += go(ports, tls, range(first + CLIENTS, first + 2 * CLIENTS), SECONDS * 2 / 3)
    rss_after, fds_after = quiet(gateway)
    wrong = [w for c in clients for w in c.wrong]
    assert not wrong, wrong[:20]
    check(clients, sink, quarantine)
    assert fds_after <= fds + 40, "descriptors: %d, then %d" % (fds, fds_after)
    assert rss_after <= rss + (200 << 10 if sanitized() else 24 << 10), "memory: %d KiB, then %d KiB" % (rss, rss_after)
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(20 * SLOW)
    assert time.monotonic() - began < 10 * SLOW
    log = gateway.log()
    ended = gateway.stop()
    assert not ended, ended
    assert "were cut off" not in log
    print("dialogs %d, acknowledged %d, connections to the backend %d, commands %r" % (
        sum(c.dialogs for c in clients), sum(len(c.yes) for c in clients), sink.connections, sink.commands))


def quiet(gateway):
    """Memory and descriptors when nobody is there any more."""
    port_count, deadline = None, time.monotonic() + 15 * SLOW
    while time.monotonic() < deadline:
        now = descriptors(gateway)
        if now == port_count:
            break
        port_count = now
        time.sleep(2.5)
    return gateway.rss(), descriptors(gateway)


def check(clients, sink, quarantine):
    assert not sink.strange and not quarantine.strange, (sink.strange + quarantine.strange)[:10]
    acknowledged = 0
    for c in clients:
        for number, (sent, heard) in c.yes.items():
            acknowledged += 1
            taken = sink.said_yes.get(number, []) + quarantine.said_yes.get(number, [])
            if heard == b"250 2.0.0 Ok" and c.late or b"early" in heard:
                continue  # every recipient was discarded; a yes that came too soon is a yes
            if heard.startswith(b"250 2.1."):
                continue  # that of an envelope, said twice by the backend: to BDAT it is a yes like any other
            assert taken, "%r was acknowledged (%r) and is nowhere" % (number, heard)
            assert all(t == sent for t in taken), "%r is not whole" % number
    assert acknowledged > 20
