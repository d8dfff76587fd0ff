"""The backend fails at every stage in every way: the client hears a 4yz (or what was said in due form), never silence, never 250
for a message the backend did not take, never a 5yz the backend did not say; and its session lives."""
import os
import threading
import time

import pytest
from gateway import Gateway, free_port
from peers import BackendServer, Client, Wrong

STAGES = ["banner", "ehlo", "mail", "rcpt", "data", "body", "end"]
WAYS = {
    "drops": None, "resets": None, "hangs": None,
    "421": b"421 4.3.2 closing\r\n", "450": b"450 4.2.0 later\r\n", "550": b"550 5.7.1 never\r\n",
    "250 out of place": b"250 2.0.0 fine\r\n", "354 out of place": b"354 go\r\n", "220 out of place": b"220 hello\r\n",
    "999": b"999 what\r\n", "no code": b"hello there\r\n", "empty line": b"\r\n", "half": b"250 2.0.0 fi", "half line": b"25",
    "binary": b"\x00\xff\x16\x03\x01\x02\x00\r\n", "endless line": b"250 " + b"x" * 100000, "endless lines": b"250-on and on\r\n" * 5000,
    "LF only": b"250 fine\n", "CR only": b"250 fine\r", "two codes": b"250-one\r\n450 two\r\n", "NUL": b"250 fi\0ne\r\n",
    "two replies": b"250 one\r\n250 two\r\n", "503": b"503 5.5.1 order\r\n", "530": b"530 5.7.0 first\r\n",
}
YES = ("250 out of place", "two replies", "NUL")  # each begins with a 250 in due form
CONF = ('hostname "mx.test"\nworkers(%s)\ntimeouts { banner = "400ms", helo = "400ms" }\n'
        'backend "b" { "%s", pool = 0 }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false, timeouts = { banner = "400ms", helo = "400ms", '
        'mail = "400ms", rcpt = "400ms", data_reply = "400ms", end_reply = "400ms", end_by = "300ms" } }\n')


class Faulty:
    """A backend that behaves up to its stage and then fails in its way. What it took it remembers."""

    def __init__(self, stage, way):
        self.stage, self.way, self.taken, self.fine = stage, way, 0, False
        self.server = BackendServer([], manual=True)
        threading.Thread(target=self.serve_all, daemon=True).start()

    def serve_all(self):
        while not self.server.closing:
            try:
                b = self.server.used.get(timeout=1)
            except Exception:  # nobody yet
                continue
            threading.Thread(target=self.serve, args=(b,), daemon=True).start()

    def fail(self, b):
        words = WAYS[self.way]
        if words:
            b.send(words)
            if self.way in ("half", "half line"):
                b.close()
            elif self.way not in ("endless line", "endless lines"):
                self.rest(b)
        elif self.way == "drops":
            b.close()
        elif self.way == "resets":
            b.reset()
        else:
            time.sleep(3)

    def rest(self, b):
        """Whatever comes is read and not answered any more."""
        while b.fill(3):
            b.buffer = b""

    def serve(self, b):
        try:
            self.talk(b)
        except (Wrong, OSError, ValueError):
            pass

    def talk(self, b):
        at = None if self.fine else self.stage
        if at == "banner":
            return self.fail(b)
        b.send(b"220 b.test\r\n")
        while True:
            verb = b.line()[:4].upper()
            stage = {"EHLO": "ehlo", "HELO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data"}.get(verb)
            if verb == "QUIT":
                return b.send(b"221 bye\r\n")
            if stage == at:
                return self.fail(b)
            if verb == "EHLO":
                b.send(b"250-b.test\r\n250 PIPELINING\r\n")
            elif verb == "DATA":
                b.send(b"354 go\r\n")
                if at == "body":
                    b.line()
                    return self.fail(b)
                b.content()
                if at == "end":
                    return self.fail(b)
                self.taken += 1
                b.send(b"250 2.0.0 Ok: queued as FINE\r\n")
            else:
                b.send(b"250 ok\r\n")


def allowed(stage, way, where, reply, heard):
    """Whether `reply` at `where` (rcpt, data, end) is what may be heard of that fault."""
    if reply[0] == "4":
        return True
    if reply[0] == "5":  # said by the backend of this very thing, or of DATA without rcpts
        said = way == "550" and stage in ("mail", "rcpt", "data", "body", "end")
        return said or (where == "data" and heard.get("rcpt", "2")[0] != "2")
    if where == "rcpt":
        return stage in ("data", "body", "end") or stage == "ehlo" and way in YES + ("550", "503", "530") or \
            stage in ("mail", "rcpt") and way in YES or \
            stage == "banner" and way == "220 out of place"
    if where == "data":
        return True
    return stage == "end" and way in YES


@pytest.mark.parametrize("stage", STAGES)
def test_a_backend_that_fails_is_a_4yz_and_the_session_lives(stage):
    """All ways of one stage at once: each has a gateway's listener of its own world, so that they wait together."""
    failures = []
    threads = [threading.Thread(target=guard, args=(stage, way, failures)) for way in WAYS]
    for i in range(0, len(threads), 8):
        for t in threads[i:i + 8]:
            t.start()
        for t in threads[i:i + 8]:
            t.join()
    assert not failures, "\n".join(failures)


def guard(stage, way, failures):
    try:
        once(stage, way)
    except Exception as e:  # of any kind: told with its way
        failures.append("%s: %s: %s: %s" % (stage, way, type(e).__name__, e))


def once(stage, way):
    faulty = Faulty(stage, way)
    port = free_port()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), faulty.server.address, port)).start()
    heard = {}
    try:
        converse(Client(port), stage, way, faulty, heard)
        log = gateway.log()
        assert "event=msg id=" in log, log
        refused = [r for r in heard.values() if r[0] == "4"]
        assert not refused or "warning" in log or way == "450", "nothing in the log of %s" % refused
        if stage != "body" and (stage, way) != ("data", "354 out of place"):  # there our end may have been said
            assert ("uncertain=1" in log) == (stage == "end" and way not in YES + ("421", "450", "550", "530")), log
    finally:
        faulty.server.close()
        wrong = gateway.stop()
        assert not wrong, wrong


def converse(c, stage, way, faulty, heard):
    def say(line, where=None):
        c.send(line + b"\r\n")
        reply = c.reply()
        if where:
            heard[where] = reply
            assert allowed(stage, way, where, reply, heard), "%s: %s" % (where, reply)
        return reply
    assert c.reply().startswith("220")
    assert say(b"EHLO x").startswith("250")
    assert say(b"MAIL FROM:<a@x.test>").startswith("250")
    say(b"RCPT TO:<1@y.test>", "rcpt")
    if say(b"DATA", "data").startswith("354"):
        c.send(b"Subject: x\r\n\r\n" + b"body\r\n" * 100)
        time.sleep(0.05)
        say(b".", "end")
    faulty.fine = True
    took = faulty.taken
    assert say(b"RSET").startswith("250")
    assert say(b"MAIL FROM:<b@x.test>").startswith("250")
    assert say(b"RCPT TO:<2@y.test>").startswith("250")
    assert say(b"DATA").startswith("354")
    assert say(b"x\r\n.").startswith("250 2.0.0 Ok: queued as FINE")
    assert faulty.taken == took + 1
    assert say(b"QUIT").startswith("221")
