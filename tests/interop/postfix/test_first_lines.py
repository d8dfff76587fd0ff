"""Whatever content begins with, mbox lines, white space, a line that is no field: what Postfix delivers is what it delivers without us, but for
our Received and what filters add. Needs root (Postfix does)."""
import os
import re
import shutil
import smtplib
import time

import pytest
from gateway import Gateway, free_port
from private import Postfix

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")

CONTENTS = [  # MARK tells them apart
    b"From a@x.test  Tue May 10 14:55:10 2016\r\nFrom: a@x.test\r\nSubject: MARK\r\n\r\nbody\r\n",
    b">From a@x.test\r\n>>From b@x.test\r\nSubject: MARK\r\n\r\nbody\r\n",
    b"FROM a@x.test  Tue May 10\r\nfrom b@x.test\r\nSubject: MARK\r\n\r\nbody\r\n",
    b"From a@x.test\r\n folded MARK\r\nSubject: x\r\n\r\nbody\r\n",
    b"From a@x.test\r\n\r\nMARK\r\n",
    b"From : a@x.test\r\nSubject: MARK\r\n\r\nbody\r\n",
    b" Subject: MARK\r\n\r\nbody\r\n",
    b"\tSubject: MARK\r\n\r\nbody\r\n",
    b"no colon MARK\r\nSubject: x\r\n\r\nbody\r\n",
    b"Sub ject: MARK\r\nX: y\r\n\r\nbody\r\n",
    b": MARK\r\n\r\nbody\r\n",
    b"\r\nMARK body\r\n",
    b"\xc3\xbc: MARK\r\nX: y\r\n\r\n",
]
OF_ITS_WAY = re.compile(rb"(Received|Message-ID|Date|Return-Path|Delivered-To|X-Original-To|X-By-Filter|To):", re.I)
CONF = """hostname "mx.test"
backend "b" { "127.0.0.1:%d" }
chain "filtered" { filter "add.lua" { } }
listen "plain" { "127.0.0.1:%d", backend = "b" }
listen "filtered" { "127.0.0.1:%d", backend = "b", chain = "filtered" }
"""
SCRIPT = 'function on.headers(s, m) m.headers:add("X-By-Filter", "1") end\n'


def send(port, content):
    s = smtplib.SMTP("127.0.0.1", port, timeout=30)
    s.ehlo("client.example.org")
    s.mail("a@example.org")
    s.rcpt("b@example.net")
    s.docmd("DATA")
    s.send(content + b".\r\n")
    assert s.getreply()[0] == 250
    s.quit()


def delivered(postfix, mark):
    """Fields and body of the one mail, without what differs by the way it came."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        mails = [m for m in (open(name, "rb").read() for name in postfix.mail()) if mark in m]
        if mails:
            head, _, body = mails[0].replace(mark, b"").partition(b"\n\n")
            return [f for f in re.split(rb"\n(?![ \t])", head) if not OF_ITS_WAY.match(f)], body
        time.sleep(0.1)
    raise AssertionError("%r was not delivered" % mark)


def test_what_is_delivered_is_what_postfix_alone_makes_of_it():
    postfix, port, filtered = Postfix(), free_port(), free_port()
    gateway = Gateway(CONF % (postfix.port, port, filtered), files={"add.lua": SCRIPT}).start()
    try:
        for i, content in enumerate(CONTENTS):
            for j, way in enumerate((postfix.port, port, filtered)):
                send(way, content.replace(b"MARK", b"mark-%d-%d-" % (i, j)))
        for i, content in enumerate(CONTENTS):
            alone, behind, edited = [delivered(postfix, b"mark-%d-%d-" % (i, j)) for j in range(3)]
            assert alone == behind == edited, (content, alone, behind, edited)
    finally:
        wrong = gateway.stop()
        postfix.stop()
    assert not wrong, wrong
