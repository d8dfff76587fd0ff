"""Nothing inside a message becomes an end of it or a command: every look-alike of the end of mail data, in every split, in both
modes of bare line ends, followed by the commands of a second message; nor would one that drops NULs find an end inside. A decoder of a few lines, written from RFC 5321 alone,
says what the backend has to hear; whatever it hears beyond that is the evil message."""
import itertools
import os
import re
import socket
import threading
import time

import pytest
from gateway import Gateway, free_port
from peers import Client

ENDS = [b"\n", b"\r", b"\r\n", b"\r\0", b"\0", b"\n\r", b"\r\r\n", b"\r\n\0", b"", b" \r\n", b"\x85", b"\x0b", b"\r \n"]
EVIL = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\n"
CONF = ('hostname "mx.test"\nworkers(%s)\nbackend "b" { "127.0.0.1:%d", pool = 4 }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false, bare = "%s", '
        'limits = { errors = 1000, junk = 0, messages = 0 } }\n')


def decode(octets, normalize):
    """What stands before the end of mail data, whether something bare was there, and what follows. RFC 5321 4.1.1.4, 4.5.2:
    the end is CRLF.CRLF and nothing else, at the very beginning .CRLF. Normalized, a bare LF becomes CRLF and a bare CR a space; a lone dot
    with a bare LF before or behind it is no end and no content (Postfix does so)."""
    content, line, bare, at, before = b"", b"", False, 0, True  # before: the line end before this line was CRLF
    while at < len(octets):
        proper = octets[at:at + 2] == b"\r\n"
        octet = octets[at:at + 1]
        at += 2 if proper else 1
        if not proper and octet in b"\r\n":
            bare = True
        if not proper and not (octet == b"\n" and normalize):
            line += b" " if octet == b"\r" and normalize else octet
            continue
        if line == b"." and proper and before:
            return content, bare, octets[at:]
        if line != b".":
            content += (line[1:] if line.startswith(b".") else line) + b"\r\n"
        line, before = b"", proper
    raise ValueError("no end")


def cases():
    for a, b in itertools.product(ENDS, ENDS):
        yield b"Subject: first\r\n\r\nbody" + a + b"." + b + EVIL
    for a in ENDS:  # at the very beginning, in the header section, two dots
        yield b"." + a + EVIL
        yield b"Subject: x" + a + b"." + a + EVIL
        yield b"Subject: x\r\n\r\nbody" + a + b".." + a + EVIL
        yield b"Subject: x\r\n\r\nbody\r\n." + a + b"\r\n" + EVIL


class Backend:
    """Hears everything octet for octet; each message must be the one that was announced."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.evil, self.messages = [], []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"220 b.test\r\n")
        buffer, mode = b"", "command"
        while True:
            got = sock.recv(65536)
            if not got:
                return
            buffer += got
            while True:
                if mode == "command":
                    line, found, rest = buffer.partition(b"\r\n")
                    if not found:
                        break
                    buffer = rest
                    verb = line[:4].upper()
                    if b"evil" in line or b"victim" in line or verb not in (b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"QUIT"):
                        self.evil.append(line)
                    if verb == b"DATA":
                        mode = "content"
                    sock.sendall({b"EHLO": b"250-b.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n", b"DATA": b"354 go\r\n"}.get(verb, b"250 ok\r\n"))
                else:
                    start = buffer.startswith(b".\r\n")
                    end = 0 if start else buffer.find(b"\r\n.\r\n") + 2
                    if not start and end < 2:
                        break
                    raw, buffer, mode = buffer[:end], buffer[end + 3:], "command"
                    if raw.replace(b"\r\n", b"").count(b"\r") + raw.replace(b"\r\n", b"").count(b"\n"):
                        self.evil.append(b"bare line end: " + raw)
                    if b"\r\n.\r\n" in b"\r\n" + raw.replace(b"\0", b""):
                        self.evil.append(b"an end but for NULs: " + raw)
                    self.messages.append(b"".join(l[1:] if l.startswith(b".") else l for l in raw.split(b"\r\n") for l in (l + b"\r\n",))[:-2])
                    sock.sendall(b"250 2.0.0 Ok\r\n")


@pytest.fixture(scope="module", params=["reject", "normalize"])
def world(request):
    backend, port = Backend(), free_port()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), backend.port, port, request.param)).start()
    yield request.param, backend, port
    backend.listener.close()
    wrong = gateway.stop()
    assert not wrong, wrong


def converse(c, backend, mode, octets, pieces):
    def say(line):
        c.send(line + b"\r\n")
        return c.reply()
    assert say(b"MAIL FROM:<a@x.test>").startswith("250")
    assert say(b"RCPT TO:<b@y.test>").startswith("250")
    assert say(b"DATA").startswith("354")
    content, bare, rest = decode(octets, mode == "normalize")
    heard = len(backend.messages)
    taken = octets[:len(octets) - len(rest)]  # what is behind a true end would rightly be commands
    at = 0
    for n in pieces + [len(taken)]:
        if n > at:
            c.sock.sendall(taken[at:n])
            at = n
            if len(pieces) > 1:
                time.sleep(0.0005)
    reply = c.reply()
    if (bare and mode == "reject") or re.search(rb"(^|\r\n)\0+\.\0*\r\n", content):
        assert reply.startswith("550 5.5.2"), reply
        assert len(backend.messages) == heard
    else:
        assert reply.startswith("250"), reply
        assert len(backend.messages) == heard + 1
        assert backend.messages[-1] == content, (backend.messages[-1], content)
    assert say(b"VRFY marker").startswith("252"), "a reply too many"
    assert not backend.evil, backend.evil


def fresh(port):
    c = Client(port)
    assert c.reply().startswith("220")
    c.send(b"EHLO x\r\n")
    assert c.reply().startswith("250")
    return c


def test_no_look_alike_ends_a_message(world):
    mode, backend, port = world
    c = fresh(port)
    for octets in cases():
        converse(c, backend, mode, octets, [])


def test_no_look_alike_ends_a_message_however_it_is_split(world):
    mode, backend, port = world
    c = fresh(port)
    for a, b in itertools.product(ENDS[:6], ENDS[:6]):
        octets = b"S: x\r\n\r\nbody" + a + b"." + b + EVIL
        begin = octets.index(b"body") + 3
        end = octets.index(b"MAIL") + 1
        for n in range(begin, end + 1):
            converse(c, backend, mode, octets, [n])
        converse(c, backend, mode, octets, list(range(begin, end)))


def test_the_reference_decoder_knows_the_rfc():
    assert decode(b".\r\nrest", False) == (b"", False, b"rest")
    assert decode(b"a\r\n..b\r\n.\r\n", False) == (b"a\r\n.b\r\n", False, b"")
    assert decode(b"a\n.\nb\r\n.\r\nc", False)[1:] == (True, b"c")
    assert decode(b"a\n.\r\nb\r\n.\r\n", True) == (b"a\r\nb\r\n", True, b"")
