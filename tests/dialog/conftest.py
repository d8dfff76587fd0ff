"""Collects *.smtp files: one item for each way a dialog is run (plain, tls, chop). The language is in README.md."""
import os
import re
import signal
import socket
import subprocess
import threading
import time

import probe
import pytest
from gateway import SLOW, SLUICE, WORKERS, Gateway, certificate, free_port
from peers import PATIENCE, BackendServer, Client, Wrong

CAN = ["PIPELINING", "SIZE 20000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
SETTINGS = ("second:", "listen:", "backend:", "chain:", "top:", "tls:", "can:", "run:")


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".smtp":
        return DialogFile.from_parent(parent, path=file_path)


class DialogFile(pytest.File):
    def collect(self):
        dialog = Dialog(self.path.read_text())
        for way in dialog.ways:
            yield DialogItem.from_parent(self, name=way, dialog=dialog, way=way)


class DialogItem(pytest.Item):
    def __init__(self, *, dialog, way, **kw):
        super().__init__(**kw)
        self.dialog, self.way = dialog, way

    def runtest(self):
        Run(self.dialog, self.way).run()

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, (Wrong, AssertionError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, "%s (%s)" % (self.path.stem, self.way)


class Server:
    """One of several of backend "b"."""

    def __init__(self):
        self.options, self.can, self.down = "", None, False


class Dialog:
    def __init__(self, text):
        self.settings = {"listen": [], "backend": [], "chain": [], "top": [], "tls": [], "second": []}
        self.files, self.steps = {}, []
        self.can, self.ways, self.manual, self.down = list(CAN), ["plain", "tls", "chop"], False, False
        self.serving = False
        self.module = self.second = self.unixback = self.unixfront = self.nofallback = False
        self.servers = {"b": Server()}  # of backend "b", in the order in which they are named
        lines = iter(enumerate(text.splitlines(), 1))
        for number, line in lines:
            word = line.strip()
            if not word or word.startswith("#"):
                continue
            name, _, value = word.partition(":")
            if not self.steps and word.startswith(("server ", "can ")) and name[-2] == " ":
                server = self.servers.setdefault(name[-1], Server())
                if word.startswith("can "):
                    server.can = [c.strip() for c in value.split(",")]
                else:
                    words = value.split()
                    server.down = "down" in words
                    server.options = " ".join(w for w in words if w != "down")
            elif not self.steps and any(word.startswith(s) for s in SETTINGS):
                value = value.strip()
                if name == "can":
                    self.can = [c.strip() for c in value.split(",")] if value else []
                elif name == "run":
                    self.ways = value.split()
                else:
                    self.settings[name].append(value)
            elif word.startswith("file ") and word.endswith("<<"):
                body = []
                for _, inner in lines:
                    if inner.strip() == ">>":
                        break
                    body.append(inner)
                self.files[word[5:-2].strip()] = "\n".join(body) + "\n"
            elif word in ("manual", "serving"):
                setattr(self, word, True)
            elif word in ("module", "second", "unixback", "unixfront", "nofallback"):
                setattr(self, word, True)
            elif word == "down":
                self.down = True
            else:
                self.steps.append((number, line.strip("\n")))


def unescape(text):
    return text.encode("utf-8", "surrogateescape").decode("latin-1").encode("latin-1").decode("unicode_escape").encode("latin-1")


def matches(text, pattern):
    if re.fullmatch(r"\d\d\d", pattern):
        return text[:3] == pattern
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), text, re.S) is not None


class Run:
    def __init__(self, dialog, way):
        self.dialog, self.way = dialog, way
        self.chop = way == "chop"
        self.clients, self.backends, self.senders = {}, {}, {}
        self.server = self.second = None
        self.servers = {}

    def conf(self):
        d = self.dialog
        addresses = ", ".join('{ "%s", %s }' % (self.address_of(name), server.options) if server.options
                              else '"%s"' % self.address_of(name) for name, server in d.servers.items())
        backend = [preset for preset in ("pool = 0", "health = 0")
                   if not any(b.startswith(preset[:-1]) for b in d.settings["backend"])]
        cert = certificate()
        self.port = free_port()
        listen = ['"unix:@DIR@/in"' if d.unixfront else '"127.0.0.1:%d"' % self.port, 'tls = "t"', 'chain = "c"']
        if not d.nofallback:
            listen.append('backend = "b"')
        if not any(l.startswith("received") for l in d.settings["listen"]):
            listen.append("received = false")
        if self.way == "smtps":
            listen.append("implicit = true")
        tops = d.settings["top"] + (['module "%s"' % probe.built(SLUICE)] if d.module else [])
        workers = [] if any(t.startswith("workers") for t in tops) else ["workers(%s)" % ("1" if d.manual else WORKERS)]
        return "\n".join(
            ['hostname "mx.test"'] + workers + tops +
            ['tls "t" { %s }' % ", ".join(['certificate = "%s/cert.pem", key = "%s/key.pem"' % (cert, cert)] + d.settings["tls"]),
             'backend "b" { %s, %s }' % (addresses, ", ".join(backend + d.settings["backend"])),
             'backend "q" { %s }' % ", ".join(['"127.0.0.1:%d", pool = 0, health = 0' % self.second.port] + d.settings["second"])
             if self.second else "",
             'chain "c" { %s }' % ", ".join(d.settings["chain"]),
             'listen "l" { %s }' % ", ".join(listen + d.settings["listen"])]) + "\n"

    def address_of(self, name):
        return self.servers[name].address if name in self.servers else "127.0.0.1:%d" % free_port()

    def with_certificates(self, conf):
        """@CERT:NAME@ is the folder of a certificate for that name."""
        return re.sub("@CERT:([^@]*)@", lambda m: certificate(m.group(1)), conf)

    def run(self):
        d = self.dialog
        for name, server in d.servers.items():
            if not d.down and not server.down:
                self.servers[name] = BackendServer(server.can or d.can, self.chop, d.manual, d.unixback, d.serving)
        self.server = self.servers.get("b")
        if d.second:
            self.second = BackendServer(d.can, self.chop)
        gateway = self.gateway = Gateway(self.with_certificates(self.conf()), d.files)
        failure = None
        try:
            gateway.start()
            for number, line in d.steps:
                try:
                    self.step(line)
                except (Wrong, OSError, ValueError) as e:
                    raise Wrong("line %d: %s\n  %s" % (number, line.strip(), e))
        except AssertionError as e:
            failure = e
        for peer in list(self.clients.values()) + list(self.backends.values()):
            peer.close()
        for server in list(self.servers.values()) + ([self.second] if self.second else []):
            server.close()
        log = gateway.log()
        wrong = gateway.stop()
        if failure or wrong:
            raise Wrong("%s\n%s\n--- log\n%s" % (failure or "", wrong and "the gateway " + wrong, log[-3000:]))

    # ---- steps
    def step(self, line):
        who, _, what = line.strip().partition(" ")
        what = line.lstrip()[len(who) + 1:]
        if who == "wait":
            time.sleep(float(what))
        elif who == "put":
            self.put(*what.strip().split(" ", 1))
        elif who in ("log", "nolog"):
            self.look_in_log(what.strip(), who == "log")
        elif who == "unused":
            if not self.server.used.empty():
                raise Wrong("the backend has been used")
        elif who == "gateway":
            self.gateway_step(what.strip())
        elif who[0] == "c":
            self.client_step(who, what)
        elif what.strip() in ("down", "up") and who in self.servers:
            getattr(self.servers[who], what.strip())()
        elif who[0] == "q" or who[0] in self.dialog.servers:
            self.backend_step(who, what)
        else:
            raise ValueError("no such step")

    def put(self, name, text):
        path = os.path.join(self.gateway.folder, name)
        with open(path + ".new", "wb") as f:
            f.write(unescape(text))
        os.rename(path + ".new", path)
        time.sleep(2.2)  # it is looked at every second

    def look_in_log(self, pattern, wanted):
        deadline = time.monotonic() + (5 * SLOW if wanted else 0.2)
        while True:
            found = any(matches(l, "*" + pattern + "*") for l in self.gateway.written().splitlines())
            if found == wanted and (wanted or time.monotonic() > deadline):
                return
            if time.monotonic() > deadline:
                raise Wrong("the log has %s such line" % ("no" if wanted else "a"))
            time.sleep(0.05)

    def client(self, who):
        if who not in self.clients:
            self.clients[who] = Client(os.path.join(self.gateway.folder, "in") if self.dialog.unixfront else self.port, self.chop)
            if self.way == "smtps":
                self.clients[who].handshake()
        return self.clients[who]

    def gateway_step(self, what):
        if what == "stop":
            self.gateway.process.send_signal(signal.SIGSTOP)
            tasks = "/proc/%d/task" % self.gateway.process.pid
            while any(") T " not in open("%s/%s/stat" % (tasks, t)).read() for t in os.listdir(tasks)):  # all threads, not the first
                time.sleep(0.001)
        elif what == "cont":
            self.settle()
            self.gateway.process.send_signal(signal.SIGCONT)
        elif what == "reload":
            before = self.gateway.log().count("reloaded: generation")
            self.gateway.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + PATIENCE
            while self.gateway.log().count("reloaded: generation") == before:
                if time.monotonic() > deadline:
                    raise Wrong("it has not reloaded")
                time.sleep(0.005)
        elif what == "term":
            self.gateway.process.send_signal(signal.SIGTERM)
            time.sleep(0.2 * SLOW)
        elif what == "ends":
            try:
                self.gateway.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise Wrong("the gateway still runs")
        elif what == "refuses":
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.settimeout(1)
                    got = s.recv(100)
            except OSError:
                return
            if got and not got.startswith(b"421"):
                raise Wrong("a new connection is served: %r" % got)
        else:
            raise ValueError("no such step")

    def settle(self):
        """All that was said to a gateway that stands still lies in its sockets: it shall find it there at once."""
        deadline = time.monotonic() + SLOW
        for peer in list(self.clients.values()) + list(self.backends.values()):
            while peer.is_on_its_way() and time.monotonic() < deadline:
                time.sleep(0.001)

    def backend(self, who):
        if who not in self.backends:
            self.backends[who] = (self.second if who[0] == "q" else self.servers[who[0]]).take()
        return self.backends[who]

    def send(self, peer, verb, text):
        if peer in self.senders:
            self.senders.pop(peer).join(PATIENCE)
        if verb == ">":
            peer.send(text.encode("utf-8", "surrogateescape") + b"\r\n")
        elif verb == ">>":
            peer.send(unescape(text))
        else:
            times, _, text = text.partition(" ")
            octets = unescape(text) * int(times)
            if self.chop:
                peer.send(octets)
            else:  # whoever does not read must not stop the dialog
                self.senders[peer] = threading.Thread(target=peer.send, args=(octets,), daemon=True)
                self.senders[peer].start()
                if len(octets) < 65536:
                    time.sleep(0.05)

    def client_step(self, who, what):
        verb, _, text = what.partition(" ")
        if verb == "connect" or verb == "hello":
            c = self.client(who)
            if verb == "hello":
                self.hello(c)
            return
        c = self.client(who)
        if verb in (">", ">>", ">*"):
            self.send(c, verb, text)
        elif verb == "<*":
            self.expect_many(c, text, c.reply)
        elif verb == "<":
            self.expect(c, text.strip(), c.reply)
        elif verb == "starttls":
            c.starttls(text.strip() or "localhost")
        elif verb == "handshake":
            c.handshake(text.strip() or "localhost")
        elif verb == "show":
            c.shown = text.strip()
        elif verb == "certificate":
            if text.strip().encode() not in c.sock.getpeercert(True):
                raise Wrong("it is another one")
        elif verb in ("close", "reset", "half"):
            getattr(c, verb)()
            if verb != "half":
                del self.clients[who]
        else:
            raise ValueError("no such step")

    def hello(self, c):
        for said, code in ((None, "220"), ("EHLO client.test", "250")):
            if said:
                if self.way == "tls":
                    c.send(b"EHLO client.test\r\n")
                    self.expect(c, "250", c.reply)
                    c.starttls()
                c.send(said.encode() + b"\r\n")
            self.expect(c, code, c.reply)

    def expect(self, peer, pattern, read):
        if pattern == "eof":
            peer.expect_end()
        elif pattern == "nothing":
            peer.expect_nothing()
        else:
            got = read()
            if not matches(got, pattern):
                raise Wrong("got: " + got)

    def expect_many(self, peer, text, read):
        times, _, pattern = text.partition(" ")
        for _ in range(int(times)):
            self.expect(peer, pattern.strip(), read)

    def backend_step(self, who, what):
        verb, _, text = what.partition(" ")
        b = self.backend(who)
        if verb == "accept":
            return
        if verb == "<":
            self.expect(b, text.rstrip(), b.line)
        elif verb == "<*":
            self.expect_many(b, text, b.line)
        elif verb == ">":
            lines = text.strip().split("|")
            code, first = lines[0][:3], lines[0][4:]
            lines = [first] + lines[1:]
            b.send("".join("%s%s%s\r\n" % (code, "-" if i + 1 < len(lines) else " ", l) for i, l in enumerate(lines)).encode())
        elif verb in (">>", ">*"):
            self.send(b, verb, text)
        elif verb == "content":
            self.expect_content(b.content(), text)
        elif verb == "octets":
            want = unescape(text)
            got = b.octets(len(want))
            if got != want:
                raise Wrong("got: %r" % got)
        elif verb == "handshake":
            b.handshake(*(text.split() or ["localhost"]))
        elif verb == "resumed":
            if not b.sock.session_reused:
                raise Wrong("it is a new session")
        elif verb == "header":
            b.header()
        elif verb == "skip":
            b.octets(int(text))
        elif verb == "chunk":
            line = b.line().split()
            if line[0] != "BDAT" or line[2:] != text.split():
                raise Wrong("got: " + " ".join(line))
            b.octets(int(line[1]))
        elif verb == "chunks":
            owed, line = 0, b.line()
            while re.fullmatch(r"BDAT \d+", line):
                b.octets(int(line.split()[1]))
                owed, line = owed + 1, b.line()
            if line.endswith(" LAST"):
                b.octets(int(line.split()[1]))
            else:
                b.buffer = line.encode() + b"\r\n" + b.buffer
            b.send((text + "\r\n").encode() * owed)
        elif verb == "octets":
            want = unescape(text)
            got = b.octets(len(want))
            if got != want:
                raise Wrong("octets were: %r" % got[:2000])
        elif verb == "rest":
            threading.Thread(target=b.rest, daemon=True).start()
        elif verb == "starttls":
            self.expect(b, "STARTTLS", b.line)
            b.send(b"220 2.0.0 go\r\n")
            b.handshake(text.strip() or "localhost")
        elif verb == "greet":
            b.greet(self.dialog.servers[who[0]].can or self.dialog.can)
        elif verb in ("close", "reset", "half"):
            getattr(b, verb)()
        elif verb == "hang":
            pass
        else:
            raise ValueError("no such step")

    def expect_content(self, got, text):
        prefix = text.endswith("*")
        want = unescape(text[:-1] if prefix else text)
        if not (got.startswith(want) if prefix else got == want):
            raise Wrong("content was: %r" % got[:2000])
