"""A backend that wants to know whose each MAIL is, and keeps a list of what is wrong: told under another client's address, port, HELO name
or login (PROXY, XCLIENT, XFORWARD, AUTH), under nobody's, or not whole."""
import base64
import hashlib
import socket
import ssl
import struct

from sink import Sink

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def b64(octets):
    return base64.b64encode(octets)


def plain(user):
    return b64(b"\0%s\0secret-%s" % (user, user))


def preface(version, ip, port, tls=False):
    """The header of the PROXY protocol; tls: the client spoke it to whoever sends this."""
    v6 = ":" in ip
    if version == 1:
        return b"PROXY TCP%d %s %s %d 25\r\n" % (6 if v6 else 4, ip.encode(), b"2001:db8::25" if v6 else b"192.0.2.25", port)
    family = socket.AF_INET6 if v6 else socket.AF_INET
    body = socket.inet_pton(family, ip) + socket.inet_pton(family, "2001:db8::25" if v6 else "192.0.2.25") + struct.pack(">HH", port, 25)
    if tls:
        body += b"\x20\0\x0f" + b"\x01\0\0\0\0" + b"\x21\0\x07TLSv1.3"
    return SIGNATURE + (b"\x21\x21" if v6 else b"\x21\x11") + struct.pack(">H", len(body)) + body


class Who:
    """A client as a backend should see it. at: the backend that is asked when it says AUTH."""

    def __init__(self, serial, ip, port, helo, user=None, at=None):
        self.serial, self.ip, self.port, self.helo, self.user, self.at = serial, ip, port, helo, user, at

    def __repr__(self):
        return "%s:%s %s %s" % (self.ip, self.port, self.helo, self.user)


def unknown(word):
    return None if word is None or word.startswith("[") else word


class Insider(Sink):
    """how: "none", "xclient", "xforward", "proxy_v1", "proxy". MAIL FROM:<sN@...> is of clients[N]; sent[X-Name] is the digest of what it says."""

    def __init__(self, how, clients, sent, context=None, implicit=False):
        self.how, self.clients, self.sent, self.context, self.implicit = how, clients, sent, context, implicit
        self.wrong, self.taken, self.welcomed, self.visits = [], {}, set(), {}
        super().__init__(can=["8BITMIME", "AUTH PLAIN LOGIN"] + (["PIPELINING"] if how != "proxy_v1" else []) + {
            "xclient": ["XCLIENT NAME ADDR PORT PROTO HELO LOGIN"], "xforward": ["XFORWARD NAME ADDR PORT PROTO HELO"]}.get(how, []))

    def serve(self, sock):
        Visit(self, sock).serve()


class Visit:
    """One connection."""

    def __init__(self, sink, sock):
        self.sink, self.sock, self.file = sink, sock, None
        self.ip = self.port = self.helo = self.user = None
        self.forwarded, self.mail = {}, None

    def serve(self):
        try:
            if self.sink.how.startswith("proxy") and not self.header():
                return
            if self.sink.implicit:
                self.secure()
            self.file = self.file or self.sock.makefile("rb")
            self.say(b"220 insider")
            while self.command(self.file.readline()):
                pass
        except OSError:
            pass
        finally:
            self.sock.close()

    def secure(self):
        self.sock = self.sink.context.wrap_socket(self.sock, server_side=True)
        self.file = self.sock.makefile("rb")

    def say(self, line):
        self.sock.sendall(line + b"\r\n")

    def accuse(self, what):
        self.sink.wrong.append("%s: %s" % (self.sink.how, what))

    # ---- whose it is

    def header(self):
        """Not an octet more than that. False: the connection ended before it."""
        if self.sink.how == "proxy":
            head = self.exactly(16)
            if head is None:
                return False
            body = self.exactly(struct.unpack(">H", head[14:])[0])
            if not head.startswith(SIGNATURE):
                self.accuse("no header: %r" % head)
            elif head[12:14] in (b"\x21\x11", b"\x21\x21"):
                n, family = (4, socket.AF_INET) if head[13] == 0x11 else (16, socket.AF_INET6)
                self.ip, self.port = socket.inet_ntop(family, body[:n]), struct.unpack(">H", body[2 * n:2 * n + 2])[0]
            return True
        line = b""
        while not line.endswith(b"\r\n"):
            one = self.exactly(1)
            if one is None:
                return False
            line += one
        words = line.decode().split()
        if words[0] != "PROXY":
            self.accuse("no header: %r" % line)
        elif words[1] != "UNKNOWN":
            self.ip, self.port = words[2], int(words[4])
        return True

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.sock.recv(n - len(got))
            if not more:
                if got:
                    self.accuse("half a header: %r" % got)
                return None
            got += more
        return got

    def seen(self):
        if self.sink.how == "xforward":
            f = self.forwarded
            return Who(0, f.get("ADDR"), f.get("PORT"), f.get("HELO"), self.user)
        return Who(0, self.ip, self.port, self.helo, self.user)

    def is_of(self, serial):
        who, seen = self.sink.clients[serial], self.seen()
        user = who.user if self.sink.how in (who.at, "xclient") else None
        if self.sink.how == "none":
            return seen.user == user
        return repr(seen) == repr(Who(serial, who.ip, who.port, who.helo, user))

    # ---- commands

    def command(self, line):
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.helo = line.split()[1].decode()
            can = self.sink.can + (["STARTTLS"] if self.sink.context and not isinstance(self.sock, ssl.SSLSocket) else [])
            self.say(b"\r\n".join([b"250-insider"] + [b"250-" + c.encode() for c in can[:-1]] + [b"250 " + can[-1].encode()]))
        elif verb == b"STAR":
            self.say(b"220 go")
            self.secure()
        elif verb in (b"XCLI", b"XFOR"):
            self.attributes(verb, line)
        elif verb == b"AUTH":
            return self.auth(line.split())
        elif verb == b"MAIL":
            self.mail = int(line.split(b"@")[0].split(b"<s")[1])
            if not self.is_of(self.mail):
                self.accuse("MAIL of s%d, who is %r, is told as of %r" % (self.mail, self.sink.clients[self.mail], self.seen()))
            self.say(b"250 ok")
        elif verb == b"DATA":
            self.say(b"354 go")
            return self.content()
        elif verb == b"QUIT":
            self.say(b"221 bye")
            return False
        elif verb in (b"RCPT", b"RSET", b"NOOP"):
            self.forwarded = {} if verb == b"RSET" else self.forwarded
            self.say(b"250 ok")
        elif line:
            self.accuse("what is %r" % line)
            self.say(b"500 what")
        return bool(line)

    def attributes(self, verb, line):
        told = dict(w.split("=", 1) for w in line.decode().split()[1:])
        told = {k: unknown(v) for k, v in told.items()}
        ip, port = told.get("ADDR"), told.get("PORT")
        told["ADDR"], told["PORT"] = ip[5:] if ip and ip.startswith("IPV6:") else ip, int(port) if port else None
        if told.get("NAME") and told["ADDR"] and told["NAME"] != name_of(told["ADDR"]):
            self.accuse("another's name: %r" % line)
        if verb == b"XFOR":
            self.forwarded.update({k: v for k, v in told.items() if v is not None})
            return self.say(b"250 ok")
        self.ip, self.port, self.user = told["ADDR"], told["PORT"], told.get("LOGIN")
        self.say(b"220 insider")

    def auth(self, words):
        """False: the connection is over."""
        if self.user:
            self.accuse("AUTH where %s is in already" % self.user)
        answers = words[2:]
        for asked in (b"",) if words[1] == b"PLAIN" else (b64(b"Username:"), b64(b"Password:")):
            if not answers or words[1] == b"LOGIN":
                self.say(b"334 " + asked)
                line = self.file.readline()
                if not line:
                    return False
                answers.append(line.strip())
                if answers[-1] == b"*":
                    self.say(b"501 5.7.0 as you like")
                    return True
        parts = [base64.b64decode(a) for a in answers]
        _, user, secret = parts[0].split(b"\0") if words[1] == b"PLAIN" else (b"", *parts)
        serial = int(user.lstrip(b"abcdefghijklmnopqrstuvwxyz"))
        if self.sink.how not in ("none", "xforward") and repr(self.sink.clients[serial]) != repr(Who(0, self.ip, self.port, self.helo)):
            self.accuse("AUTH of %s, who is %r, is told as of %r" % (user, self.sink.clients[serial], self.seen()))
        if user.startswith(b"bad") or secret != b"secret-" + user:
            self.say(b"535 5.7.8 no " + user)
            return True
        self.user = user.decode()
        self.sink.welcomed.add(self.user)
        self.sink.visits[self.user] = self.sock
        self.say(b"235 2.7.0 welcome " + user)
        return True

    def content(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return False
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        name, added = lines[0][8:-2], [line for line in lines[:8] if line.startswith(b"X-Who:")]
        digest = hashlib.sha256(b"".join(line for line in lines if line not in added)).hexdigest()
        if digest != self.sink.sent.get(name):
            self.accuse("%s is not whole" % name)
        who = self.sink.clients[self.mail]
        if added != [b"X-Who: %s %s %s\r\n" % (who.ip.encode(), who.helo.encode(), (who.user or "nobody").encode())]:
            self.accuse("the filter saw %r, but it is %r" % (added, who))
        with self.sink.lock:
            self.sink.taken[name] = self.sink.taken.get(name, 0) + 1
        self.forwarded = {}
        self.say(b"250 2.0.0 taken")
        return True


def name_of(ip):
    """What the DNS has for it."""
    return "c-%s.test" % ip.replace(".", "-").replace(":", "-")
