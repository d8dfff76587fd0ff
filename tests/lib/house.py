"""A gateway with scripts, a client that speaks to it, a DNS that answers what a test tells it."""
import glob
import os
import re
import shutil
import smtplib
import socket
import struct
import subprocess
import threading
import time

from gateway import ROOT, SLOW, SLUICE, Gateway, free_port

SCRIPTS = os.path.join(ROOT, "scripts", "filters")


class House:
    """scripts: { "x.lua": text }; chain: what stands in the chain, as Lua."""

    def __init__(self, chain, scripts=None, more="", workers=1):
        self.port = free_port()
        conf = f"""hostname "mx.example.org"
workers({workers})
{more}
backend "box"  {{ "maildir:@DIR@/mail" }}
backend "jail" {{ "maildir:@DIR@/jail" }}
chain "c"      {{ quarantine = "jail", {chain} }}
listen "x"     {{ "127.0.0.1:{self.port}", backend = "box", chain = "c" }}
"""
        self.gateway = Gateway(conf, scripts)
        self.gateway.start()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        log = self.log()
        wrong = self.gateway.stop()
        assert not wrong, wrong + "\n" + log[-3000:]

    @property
    def pid(self):
        return self.gateway.process.pid

    def log(self):
        return self.gateway.log()

    def client(self, **more):
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=30 * SLOW, **more)
        client.ehlo("client.example.net")
        return client

    def ask(self, *names):
        """The replies to RCPT of each name, in one transaction."""
        with self.client() as c:
            c.mail("a@sender.example")
            return [text(c.rcpt(n + "@example.org")) for n in names]

    def send(self, octets, to=("ann@example.org",), sender="a@sender.example"):
        with self.client() as c:
            return c.sendmail(sender, list(to), octets)

    def mails(self, box="mail"):
        files = sorted(glob.glob(os.path.join(self.gateway.folder, box, "new", "*")), key=os.path.getmtime)
        return [open(f, "rb").read() for f in files]


def text(reply):
    return "%d %s" % (reply[0], reply[1].decode("utf-8", "replace"))


def check(script, options="{}", more=""):
    """What `sluice check` says of a script."""
    g = Gateway(f"""hostname "mx.example.org"
backend "box" {{ "maildir:@DIR@/mail" }}
{more}
chain "c" {{ filter "x.lua" {options} }}
listen "x" {{ "127.0.0.1:{free_port()}", backend = "box", chain = "c" }}
""", {"x.lua": script})
    done = subprocess.run([SLUICE, "check", "-c", g.conf], capture_output=True, text=True)
    assert "AddressSanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    shutil.rmtree(g.folder, ignore_errors=True)
    return done.returncode, re.sub(re.escape(g.folder) + "/", "", done.stdout + done.stderr)


def cases(functions, head=""):
    """A script whose RCPT hook runs the function of the local part; what it returns is the reply's text."""
    body = "\n".join(f"cases[{name!r}] = function(s, m, to) {code} end" for name, code in functions.items())
    return f"""{head}
local cases = {{}}
{body}
function on.rcpt(s, m, to)
  local f = cases[to.localpart]
  if not f then return end
  return reject("550 5.7.1 result=%s", f(s, m, to))
end
"""


class Dns:
    """A UDP responder on loopback: zone { (name, type): [answers] }; other names do not exist. "drop" as answer: silence."""
    TYPES = {"a": 1, "ptr": 12, "txt": 16, "mx": 15, "aaaa": 28}

    def __init__(self, zone):
        self.zone = {(n.lower(), self.TYPES[t]): v for (n, t), v in zone.items()}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = []
        threading.Thread(target=self.serve, daemon=True).start()

    def conf(self):
        return f'dns {{ servers = {{ "127.0.0.1:{self.port}" }} }}'

    @staticmethod
    def name(text):
        return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".") if p) + b"\0"

    def rdata(self, kind, value):
        if kind == 1:
            return socket.inet_aton(value)
        if kind == 28:
            return socket.inet_pton(socket.AF_INET6, value)
        if kind == 12:
            return self.name(value)
        if kind == 15:
            return struct.pack(">H", value[0]) + self.name(value[1])
        return bytes([len(value)]) + value.encode()

    def serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
                at += query[at] + 1
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            name, question = ".".join(labels), query[12:at + 5]
            self.asked.append(name)
            answers = self.zone.get((name, kind))
            if answers == "drop":
                continue
            known = any(n == name for n, _ in self.zone)
            body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r
                            for r in (self.rdata(kind, a) for a in answers or []))
            flags = 0x8180 | (0 if known else 3)
            self.socket.sendto(query[:2] + struct.pack(">HHHHH", flags, 1, len(answers or []), 0, 0) + question + body, peer)


def eventually(claim, seconds=5):
    until = time.monotonic() + seconds * SLOW
    while not claim():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
