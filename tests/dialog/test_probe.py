"""sluice check --probe: what is said of each server, what each server hears, and the exit code."""
import socket
import subprocess
import tempfile
import threading
import time

from gateway import SLUICE, free_port, without_root
from peers import PATIENCE, BackendServer, Wrong


class Judge(BackendServer):
    """Hears what a visit says; answers RCPT as told."""

    def __init__(self, can, rcpt):
        self.heard, self.answer, self.judging = [], rcpt, threading.Lock()
        super().__init__(can)

    def has_heard(self, lines):
        """All of it, and no more: the last word is read when whoever said it may be gone."""
        deadline = time.monotonic() + PATIENCE
        while self.heard != lines and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.heard == lines

    def serve(self, backend):
        backend.send(b"220 judge.test ESMTP\r\n")
        try:
            while True:
                line = backend.line()
                self.heard.append(line)
                verb = line[:4].upper()
                if verb in ("EHLO", "LHLO"):
                    lines = ["judge.test"] + self.can
                    backend.send("".join("250%s%s\r\n" % ("-" if i + 1 < len(lines) else " ", l) for i, l in enumerate(lines)).encode())
                elif verb == "RCPT":
                    backend.send(self.answer.encode() + b"\r\n")
                elif verb == "QUIT":
                    backend.send(b"221 bye\r\n")
                    return
                else:
                    backend.send(b"250 2.0.0 ok\r\n")
        except (Wrong, OSError):
            pass


def probe(backends):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
        f.write('hostname "mx.test"\n%s\nlisten "l" { "127.0.0.1:0", backend = "b" }\n' % backends)
        f.flush()
        done = subprocess.run([SLUICE, "check", "-c", f.name, "--probe"], capture_output=True, text=True, timeout=60)
    assert without_root(done.stderr) == "", done.stderr
    return done.returncode, done.stdout


ENVELOPE = ["MAIL FROM:<>", "RCPT TO:<probe@example.invalid>", "RSET", "QUIT"]


def test_one_that_relays_for_our_address_is_warned_of():
    judge = Judge(["PIPELINING", "SIZE 1000", "8BITMIME"], "250 2.1.5 ok")
    code, said = probe('backend "b" { "127.0.0.1:%d" }' % judge.port)
    assert code == 0 and "reached" in said and "offers    PIPELINING, SIZE 1000, 8BITMIME\n" in said
    assert "WARNING   it takes mail for probe@example.invalid" in said and "1 warning\n" in said
    assert judge.has_heard(["EHLO mx.test"] + ENVELOPE), judge.heard


def test_one_that_does_not_is_said_to_refuse_in_its_words():
    judge = Judge([], "554 5.7.1 Relay access denied")
    code, said = probe('backend "b" { "127.0.0.1:%d", identity = "xforward" }' % judge.port)
    assert code == 0 and "relaying  refused for our address: 554 Relay access denied" in said
    assert "xforward, which it does NOT offer to us" in said and "WARNING" not in said
    assert judge.has_heard(["EHLO mx.test"] + ENVELOPE), judge.heard


def test_one_that_is_told_the_client_is_not_asked_to_relay():
    judge = Judge(["XCLIENT NAME ADDR"], "250 ok")
    code, said = probe('backend "b" { "127.0.0.1:%d", identity = "xclient" }' % judge.port)
    assert code == 0 and "XCLIENT NAME ADDR" in said and "WARNING" not in said
    assert judge.has_heard(["EHLO mx.test", "QUIT"]), judge.heard


def test_xclient_that_is_not_offered_makes_it_fail():
    judge = Judge([], "250 ok")
    code, said = probe('backend "b" { "127.0.0.1:%d", identity = "xclient" }' % judge.port)
    assert code == 1 and "NOT reached: it does not offer XCLIENT to us" in said


def test_xclient_that_is_not_offered_nor_required_is_as_if_it_was_told_nothing():
    judge = Judge([], "250 ok")
    code, said = probe('backend "b" { "127.0.0.1:%d", identity = "xclient", identity_required = false }' % judge.port)
    assert code == 0 and "which it does NOT offer" in said and "WARNING" in said


def test_lmtp_is_greeted_and_left():
    judge = Judge(["PIPELINING"], "250 ok")
    code, said = probe('backend "b" { "127.0.0.1:%d", protocol = "lmtp" }' % judge.port)
    assert code == 0 and "reached, by LMTP" in said
    assert judge.has_heard(["LHLO mx.test", "QUIT"]), judge.heard


def test_whoever_cannot_be_reached_makes_it_fail_and_the_others_are_visited_all_the_same():
    judge = Judge([], "554 5.7.1 no")
    silent = socket.create_server(("127.0.0.1", 0))  # one that closes at once
    threading.Thread(target=lambda: silent.accept()[0].close(), daemon=True).start()
    code, said = probe('backend "b" { "127.0.0.1:%d", "127.0.0.1:%d" }\nbackend "c" { "127.0.0.1:%d", identity = "none" }\n'
                       'backend "d" { "maildir:/nonexistent" }' % (free_port(), judge.port, silent.getsockname()[1]))
    assert code == 1
    assert "NOT reached: cannot connect: refused" in said and said.count(": reached") == 1
    assert "NOT reached: connection lost before it was ready" in said
    assert 'backend "d": maildir:/nonexistent: delivered to by ourselves' in said
