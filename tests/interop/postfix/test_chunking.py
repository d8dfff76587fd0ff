"""BDAT and a real Postfix: a client that cuts content anywhere, through the gateway and straight to Postfix, must leave the same mail;
held content reaches Postfix by BDAT. (Postfix' own client speaks no BDAT, nor does smtplib: the client is this one.) Needs root."""
import os
import random
import re
import shutil
import socket
import time

import pytest
from gateway import Gateway, free_port
from private import Postfix

needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")

CHAINS = {
    "nothing": "",
    "held": 'filter "hold.lua" { }',
    "spooled": 'filter "spool.lua" { }',
}
FILES = {"hold.lua": "function on.message(s, m) end\n", "spool.lua": "reads_body()\nfunction on.message(s, m) m:body { max = '1K' } end\n"}


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.sock.makefile("rb")
        assert self.reply().startswith(b"220")
        self.can = self.ask(b"EHLO c.example.org")

    def reply(self):
        lines = b""
        while True:
            line = self.file.readline()
            assert line, "the connection ended behind %r" % lines
            lines += line
            if line[3:4] != b"-":
                return lines

    def ask(self, line):
        self.sock.sendall(line + b"\r\n")
        return self.reply()

    def deliver(self, octets, cuts, pipelined=True):
        """The replies: one for each chunk."""
        pieces = [octets[a:b] for a, b in zip([0] + cuts, cuts + [len(octets)])]
        chunks = [b"BDAT %d%s\r\n%s" % (len(p), b" LAST" if i + 1 == len(pieces) else b"", p) for i, p in enumerate(pieces)]
        envelope = [b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.net>\r\n"]
        if pipelined:
            self.sock.sendall(b"".join(envelope + chunks))
            return [self.reply() for _ in envelope + chunks][2:]
        replies = []
        for part in envelope + chunks:
            self.sock.sendall(part)
            replies.append(self.reply())
        return replies[2:]


def gateway_before(postfix, chain, chunking="auto"):
    port = free_port()
    g = Gateway("""hostname "mx.test"
backend "postfix" { "127.0.0.1:%d", identity = "xclient", chunking = "%s" }
chain "c" { %s }
listen "l" { "127.0.0.1:%d", backend = "postfix", chain = "c" }
""" % (postfix.port, chunking, chain, port), files=FILES).start()
    g.port = port
    return g


def content(rng, number):
    lines = [b"Subject: number %d" % number, b"X-Number: %d;" % number, b"From: a@example.org", b"Message-ID: <%d@example.org>" % number,
             b"Date: Wed, 25 Nov 2026 00:00:00 +0000", b"To: b@example.net", b""]
    for _ in range(rng.choice([0, 1, 5, 200])):
        lines.append(rng.choice([b"", b".", b"..", b".x", b"text " * rng.randrange(30), b"QUIT", b"\xe4\xf6" * 20]))
    return b"\r\n".join(lines) + (b"" if rng.random() < 0.3 else b"\r\n")


def mails(postfix, count):
    deadline, found = time.monotonic() + 60, {}
    while len(found) < count and time.monotonic() < deadline:
        for path in postfix.mail():
            with open(path, "rb") as f:
                mail = f.read()
            found[int(re.search(rb"X-Number: (\d+);", mail).group(1))] = mail[mail.index(b"Subject: number"):]
        time.sleep(0.1)
    return found


def expected(octets):
    """As a Maildir has it: LF, and a line end at the end."""
    text = octets.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


@needs
@pytest.mark.parametrize("chain", ["straight", "nothing", "held", "spooled"])
def test_content_cut_anywhere_arrives_as_it_was(chain):
    postfix = Postfix()
    g = gateway_before(postfix, CHAINS[chain]) if chain != "straight" else None
    rng, sent = random.Random(chain), {}
    try:
        c = Client(g.port if g else postfix.port)
        assert b"CHUNKING" in c.can
        for number in range(40):
            octets = content(rng, number)
            cuts = sorted(set(rng.randrange(1, len(octets) + 1) for _ in range(rng.choice([0, 0, 1, 3, 10]))))  # Postfix wants no empty ones
            replies = c.deliver(octets, cuts, rng.random() < 0.7)
            assert all(r.startswith(b"250 2.0.0") for r in replies), (number, replies)
            assert b"queued as" in replies[-1]
            sent[number] = octets
        assert c.ask(b"QUIT").startswith(b"221")
        got = mails(postfix, len(sent))
        assert {n: expected(o) for n, o in sent.items()} == got
        if chain in ("held", "spooled"):  # Postfix counts what it heard
            assert postfix.wait_log(r"disconnect from .* mail=\d+ rcpt=\d+ bdat=\d+")
            assert not re.search(r"disconnect from .* data=", postfix.log())
    finally:
        wrong = g.stop() if g else ""
        postfix.stop()
        assert wrong == ""


@needs
def test_refusals_are_counted_out_as_postfix_counts_them():
    """The same wrong dialogs to both: the classes of the replies agree, and after each the conversation goes on."""
    postfix = Postfix()
    g = gateway_before(postfix, "")
    dialogs = [
        [b"BDAT 6\r\nQUIT\r\n", b"NOOP\r\n"],
        [b"MAIL FROM:<a@example.org>\r\n", b"BDAT 6 LAST\r\nQUIT\r\n", b"RSET\r\n", b"NOOP\r\n"],
        [b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<unknown@example.net>\r\n", b"BDAT 6\r\nQUIT\r\n", b"BDAT 6 LAST\r\nQUIT\r\n", b"RSET\r\n"],
        [b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.net>\r\n", b"BDAT 6\r\na: b\r\n", b"MAIL FROM:<x@example.org>\r\n", b"RSET\r\n"],
    ]
    try:
        for dialog in dialogs:
            heard = []
            for port in (postfix.port, g.port):
                c = Client(port)
                c.sock.sendall(b"".join(dialog))
                heard.append([c.reply()[:1] for _ in dialog])
                assert c.ask(b"QUIT").startswith(b"221")
            assert heard[0] == heard[1], (dialog, heard)
    finally:
        wrong = g.stop()
        postfix.stop()
        assert wrong == ""
