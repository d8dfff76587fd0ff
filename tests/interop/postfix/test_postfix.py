"""A real Postfix behind the gateway, real clients in front: swaks, smtp-source, smtplib. Needs root (Postfix does)."""
import os
import re
import shutil
import smtplib
import socket
import subprocess
import time

import pytest
from gateway import Gateway, certificate, free_port
from private import PRIVATE, Postfix

MANY = int(os.environ.get("SLUICE_MESSAGES", "10000"))
needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")

CHAIN = """filter "access" { client = { ["192.0.2.66"] = "REJECT" }, sender = { ["spam@example.com"] = "REJECT blocked sender" } },
           filter "ratelimit" { by = "ip", count = "messages", limit = 1000000, window = "1h" },
           filter "recipients.lua" { domains = { "example.net" }, allow = { "@example.net" } },
           filter "subject_tag.lua" { tag = "[in]" },
           filter "clean_headers.lua" { remove = { "X-Originating-IP" } }"""


@pytest.fixture(scope="module")
def postfix():
    p = Postfix()
    yield p
    p.stop()


def gateway_before(postfix, chain="", identity="xclient"):
    port = free_port()
    cert = certificate()
    g = Gateway("""hostname "mx.test"
tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }
backend "postfix" { "127.0.0.1:%d", identity = "%s" }
chain "c" { %s }
listen "l" { "127.0.0.1:%d", tls = "t", backend = "postfix", chain = "c", limits = { connections_per_client = 0 } }
""" % (cert, cert, postfix.port, identity, chain, port)).start()
    g.port = port
    return g


@needs
def test_a_message_keeps_every_octet_and_postfix_sees_the_client(postfix):
    g = gateway_before(postfix)
    try:
        s = smtplib.SMTP("127.0.0.1", g.port, source_address=("127.0.0.9", 0), timeout=30)
        s.starttls()
        body = "".join("line %d with trailing space \r\n.dot\r\n..two\r\n" % i for i in range(50)) + "é\r\n"
        s.ehlo("client.example.org")
        s.sendmail("a@example.org", ["b@example.net"], ("Subject:  odd   spacing\r\nX-Folded: one\r\n\ttwo\r\n\r\n" + body).encode())
        s.quit()
        assert postfix.wait_log(r"client=unknown\[127\.0\.0\.9\]")
        assert postfix.wait_log(r"to=<b@example\.net>.*status=sent")
        mails = [open(m, "rb").read() for m in postfix.mail()]
        mail = [m for m in mails if b"odd   spacing" in m][0]
        assert b"Subject:  odd   spacing\nX-Folded: one\n\ttwo\n" in mail
        assert mail.endswith(body.replace("\r\n", "\n").encode())
        assert b"Received: from client.example.org (unknown [127.0.0.9])" in mail
    finally:
        assert g.stop() == ""


@needs
def test_postfix_own_words_come_back(postfix):
    g = gateway_before(postfix)
    try:
        out = subprocess.run(["swaks", "--server", "127.0.0.1:%d" % g.port, "--tls", "--from", "a@example.org",
                              "--to", "unknown@example.net", "--helo", "sw.example.org"], capture_output=True, text=True, timeout=60).stdout
        assert "550 5.1.1 <unknown@example.net>: Recipient address rejected: no such user here" in out
        out = subprocess.run(["swaks", "--server", "127.0.0.1:%d" % g.port, "--tls", "--from", "a@example.org",
                              "--to", "known@example.net"], capture_output=True, text=True, timeout=60).stdout
        queue_id = re.search(r"250 2\.0\.0 Ok: queued as (\w+)", out).group(1)
        assert postfix.wait_log(queue_id + ".*status=sent")
        assert "qid=" + queue_id in g.log()
    finally:
        assert g.stop() == ""


@needs
@pytest.mark.skipif(not shutil.which("smtp-source"), reason="needs smtp-source")
def test_ten_thousand_messages_through_five_filters_are_all_delivered():
    postfix = Postfix("discard")
    g = gateway_before(postfix, CHAIN)
    try:
        subprocess.run(["smtp-source", "-s", "20", "-m", str(MANY), "-l", "4096", "-f", "a@example.org", "-t", "b@example.net",
                        "127.0.0.1:%d" % g.port], check=True, timeout=600)
        assert len(re.findall(r"event=msg .*verdict=forwarded", g.log())) == MANY
        queue_ids = set(re.findall(r"qid=(\w+)", g.log()))
        assert len(queue_ids) == MANY
        assert postfix.wait_log(r"status=sent", MANY, 120)
        sent = set(re.findall(r": (\w+): to=<.*status=sent", postfix.log()))
        assert queue_ids <= sent
    finally:
        wrong = g.stop()
        postfix.stop()
        assert wrong == ""


@needs
def test_a_backend_that_stops_and_comes_back_is_451_and_then_250():
    postfix = Postfix("discard")
    g = gateway_before(postfix, identity="none")

    def send():
        s = smtplib.SMTP("127.0.0.1", g.port, timeout=30)
        try:
            s.sendmail("a@example.org", ["b@example.net"], "Subject: x\r\n\r\nx\r\n")
            return 250
        except smtplib.SMTPRecipientsRefused as e:
            return list(e.recipients.values())[0][0]
        finally:
            s.close()
    try:
        assert send() == 250
        subprocess.run([PRIVATE, "stop", postfix.folder], timeout=60)
        assert send() == 451
        subprocess.run([PRIVATE, "start", postfix.folder, str(postfix.port), "discard"], check=True, timeout=60)
        assert send() == 250
    finally:
        wrong = g.stop()
        postfix.stop()
        assert wrong == ""
