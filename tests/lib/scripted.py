"""For tests that are tables: backends that follow a script and remember every octet they heard, and a client that follows one too.

A backend's script is a text of words, one text a connection, in the order in which connections are first used:

    MAIL DATA END RSET AUTH ...   the word is answered by a yes (as is all that the script does not name)
    1 copy                        likewise, RCPT TO:<1@y.test>
    WORD-   is heard and not answered       WORD!  is heard, then the connection ends      WORD~  likewise, by a reset
    WORD=550  is answered by 550            MAIL2! the second MAIL on this connection      end.copy=552  LMTP: its reply for this one
    DATA?421  is answered by 421, then the connection ends      DATA+421  is answered by a yes and, in the same write, 421; then it ends

What it heard is compared with another such text, octet by octet: "MAIL 1 copy DATA body" (SAID has the octets of each word).

A client's script: "MAIL:ok 1,2:b1,lost !1 DATA:go body end:t2": words said in one write, then the replies to them (REPLIES has their texts;
b1: the first connection's yes to this rcpt); "!1" the first connection ends, "~1" is reset. `body`: content without its end, `half`: likewise,
and the backend hears it before anything else is said, `end`: the end, `all`: content and end. `BDAT`: the same as one chunk."""
import re
import socket
import struct
import threading
import time

from gateway import SLOW
from peers import Backend, Client, Wrong

BODY = b"Subject: x\r\n\r\nhello\r\n"
SENDER = "a"
REPLIES = {
    "ok": "250 2.1.0 Ok", "done": "250 2.0.0 Ok", "out": "250 2.1.5 Ok", "bye": "221", "go": "354", "auth": "235",
    "lost": "451 4.4.2 Connection to the next hop was lost, try again later",
    "changed": "451 4.4.2 Next hop changed its mind, try again later",
    "down": "451 4.4.1 Next hop unavailable, try again later",
    "slow": "451 4.4.1 Next hop is too slow, try again later",
    "closing": "451 4.3.2 Next hop is closing, try again later",
    "nonsense": "451 4.3.0 Unexpected reply of the next hop, try again later",
    "unwelcome": "451 4.3.5 Next hop does not accept us, try again later",
    "failed": "451 4.3.0 Internal error, try again later",
    "nobody": "554 5.5.1 No valid recipients",
    "many": "452 4.5.3 Too many recipients",
    "loginlost": "421 4.4.2 Connection to the next hop was lost: connect and authenticate again",
}
CAN = ["PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES", "AUTH PLAIN"]


def said(words):
    """The octets that a backend hears of such a text."""
    octets = b""
    for word in words.split():
        octets += line_of(word) if word != "body" else BODY + b".\r\n" if not octets.endswith(b"LAST\r\n") else BODY
    return octets


def line_of(word):
    if word.startswith("MAIL"):  # MAIL/b: FROM:<b@x.test>
        return b"MAIL FROM:<%s@x.test>\r\n" % (word[5:] or SENDER).encode()
    if word == "BDAT":
        return b"BDAT %d LAST\r\n" % len(BODY)
    if word == "AUTH":
        return b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"
    if word == "half":
        return BODY
    return (word + "\r\n" if word.isupper() else "RCPT TO:<%s@y.test>\r\n" % word).encode()


class Connection:
    """One connection to a scripted backend, from the first word that is not EHLO on."""

    def __init__(self, server, peer, number):
        self.server, self.peer, self.name = server, peer, "%s%d" % (server.name, number)
        self.script = dict(re.fullmatch(r"([\w.]+)([-!~=?+].*|)", w).groups()
                           for w in (server.scripts[number - 1] if number <= len(server.scripts) else "").split())
        self.heard, self.counts, self.accepted = b"", {}, []

    def action(self, word):
        self.counts[word] = n = self.counts.get(word, 0) + 1
        return self.script.get(word if n == 1 else "%s%d" % (word, n), "")

    def answer(self, word, yes):
        """False: the connection has ended."""
        action = self.action(word)
        if action in ("!", "~"):
            self.end(action)
            return False
        if action == "-":
            return True
        if action[:1] in ("=", "?"):
            code = action[1:4]
            self.peer.send(b"%s %s.1.1 %s no\r\n" % (code.encode(), code[:1].encode(), self.name.encode()))
            if action[0] == "?":
                self.end("!")
            return action[0] == "="
        if action[:1] == "+":
            self.peer.send(b"%s\r\n421 4.3.2 %s no\r\n" % ((yes % self.name).encode(), self.name.encode()))
            self.end("!")
            return False
        if yes.startswith("250 2.1.5 "):
            self.accepted.append(word)
        if yes.endswith(" taken"):
            self.counts["taken"] = self.counts.get("taken", 0) + 1
        self.peer.send(b"%s\r\n" % (yes % self.name).encode())
        return True

    def end(self, how):
        """By FIN or RST; another thread may wait for its octets."""
        sock = self.peer.sock
        try:
            if how == "~":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RDWR if how == "!" else socket.SHUT_RD)
            time.sleep(0.002)
        except OSError:
            pass  # it has ended
        self.peer.close()

    def line(self):
        line = self.peer.line().encode("utf-8", "surrogateescape") + b"\r\n"
        self.heard += line
        return line

    def content(self):
        while not (self.heard.endswith(b"\r\n.\r\n")):
            self.line()

    def ended(self, word):
        """The replies to the end of mail data: one, or of LMTP one for each. counts["taken"]: those that are a yes."""
        if not self.server.lmtp:
            return self.answer(word, "250 2.0.0 %s taken")
        return all(self.answer("end." + name, "250 2.0.0 %s taken") for name in self.accepted)

    def serve(self):
        while True:
            line = self.line()
            verb = line[:4].decode()
            rcpt = re.match(rb"RCPT TO:<([^@]*)@", line)
            if rcpt:
                name = rcpt[1].decode()
                good = self.answer(name, "250 2.1.5 %s " + name)
            elif verb == "DATA":
                good = self.answer("DATA", "354 %s go")
                if good and self.script.get("DATA", "")[:1] not in ("=", "-"):
                    self.content()
                    good = self.ended("END")
            elif verb == "BDAT":
                self.heard += self.peer.octets(int(line.split()[1]))
                good = self.ended("BDAT") if line.endswith(b" LAST\r\n") else self.answer("BDAT", "250 2.0.0 %s")
            else:
                if verb == "MAIL":
                    self.accepted = []
                good = self.answer(verb, {"AUTH": "235 2.7.0 %s", "QUIT": "221 2.0.0 %s"}.get(verb, "250 2.1.0 %s"))
            if not good or verb == "QUIT":
                return


class Scripted:
    """A backend. `scripts` and `greeting` are set before a row is played; the connections it had are in `used`."""

    def __init__(self, name="b", lmtp=False, can=CAN):
        self.name, self.lmtp, self.can, self.scripts, self.used, self.greeting = name, lmtp, can, [], [], ""
        self.lock, self.peers = threading.Lock(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
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
        try:
            if self.greeting == "!":
                peer.close()
            elif self.greeting:
                peer.send(self.greeting.encode() + b"\r\n")
                peer.line()
            elif peer.greet(self.can):
                with self.lock:
                    self.used.append(Connection(self, peer, len(self.used) + 1))
                    connection = self.used[-1]
                connection.serve()
        except (Wrong, OSError, ValueError):
            pass

    def begin(self, *scripts, greeting=""):
        self.scripts, self.used, self.greeting = list(scripts), [], greeting

    def heard(self):
        return [c.heard.replace(b"QUIT\r\n", b"") for c in self.used]

    def expect(self, *texts):
        """What each connection has heard, in octets, but for QUIT."""
        want = [said(t) for t in texts]
        deadline = time.monotonic() + 2 * SLOW
        while self.heard() != want and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.01)
        assert self.heard() == want, "%s heard %r\ninstead of %r" % (self.name, self.heard(), want)

    def close(self):
        self.listener.close()
        for peer in self.peers:
            peer.close()


def text_of(expected, word):
    if re.fullmatch(r"[bq]\d", expected):
        return "250 2.1.5 %s %s" % (expected, word)
    if re.fullmatch(r"t[bq]?\d", expected):
        return "250 2.0.0 %s taken" % expected[1:].rjust(2, "b")
    return REPLIES.get(expected, expected)


class Script:
    """A client on its way through its script; `told` are the replies it heard."""

    def __init__(self, port, backend, hello="c.test"):
        self.client, self.backend, self.told = Client(port), backend, []
        self.client.reply()
        self.say(b"EHLO %s\r\n" % hello.encode(), ["EHLO"], ["250"])

    def say(self, octets, words, expected):
        self.client.send(octets)
        for word, want in zip(words, expected):
            want = text_of(want, word)
            got = self.client.reply()
            self.told.append(got)
            assert got == want or (len(want) == 3 and got[:3] == want), "%s heard %r instead of %r" % (word, got, want)

    def step(self, step):
        if step[0] in "!~":
            connection = self.backend.used[int(step[1:]) - 1]
            connection.end(step[0])
            time.sleep(0.05 * SLOW)
            return
        words, _, expected = step.partition(":")
        if words in ("body", "half"):
            self.client.send(BODY)
            deadline = time.monotonic() + (0.05 if words == "body" else 5) * SLOW
            while time.monotonic() < deadline and not (words == "half" and self.backend.used[-1].heard.endswith(BODY)):
                time.sleep(0.005)
            return
        words = words.split(",")
        octets = b"".join(b".\r\n" if w == "end" else BODY + b".\r\n" if w == "all" else line_of(w) +
                          (BODY if w == "BDAT" else b"") for w in words)
        self.say(octets, words, expected.split(",") if expected else [])

    def play(self, text):
        for number, step in enumerate(text.split()):
            try:
                self.step(step)
            except AssertionError as e:
                raise AssertionError("step %d of %r: %s" % (number + 1, text, e)) from None
        return self

    def leave(self):
        self.play("QUIT:bye")
        self.client.close()
