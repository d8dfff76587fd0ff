"""Whom a real Postfix takes the client for: XFORWARD over connections that clients share, XCLIENT, the PROXY protocol. Its own log is the
judge: every message, its client, and how many connections it saw."""
import concurrent.futures
import os
import re
import shutil
import smtplib
import subprocess

import pytest
from gateway import SLUICE, Gateway, free_port
from private import Postfix

ADDRESSES, MESSAGES = 50, 1000
needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")


def send(port, number, count):
    """One session of one client: its address, its HELO name and its reverse-path all have the same number."""
    s = smtplib.SMTP("127.0.0.1", port, local_hostname="c%d.example.org" % number, source_address=("127.0.1.%d" % number, 0), timeout=60)
    try:
        for i in range(count):
            s.sendmail("c%d@example.org" % number, ["b@example.net"], "Subject: %d\r\n\r\nx\r\n" % i)
    finally:
        s.quit()


def run(identity, more, per_session):
    """1,000 messages from 50 addresses, ten at a time. Returns Postfix' log."""
    postfix = Postfix("discard", more)
    port = free_port()
    g = Gateway("""hostname "mx.test"
backend "postfix" { "127.0.0.1:%d", identity = "%s" }
listen "l" { "127.0.0.1:%d", backend = "postfix", limits = { connections_per_client = 0 } }
""" % (postfix.port, identity, port)).start()
    try:
        sessions = [i % ADDRESSES + 1 for i in range(MESSAGES // per_session)]
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            for done in [pool.submit(send, port, number, per_session) for number in sessions]:
                done.result()
        assert len(re.findall(r"event=msg .*verdict=forwarded", g.log())) == MESSAGES
        assert postfix.wait_log(r"status=sent", MESSAGES, 120)
        return postfix.log()
    finally:
        wrong = g.stop()
        postfix.stop()
        assert wrong == ""


def clients_of(log, pattern):
    """{queue id: number of the client as Postfix knows it}, and the same by the reverse-path."""
    seen = {m.group(1): int(m.group(2)) for m in re.finditer(r": (\w+): " + pattern, log)}
    said = {m.group(1): int(m.group(2)) for m in re.finditer(r": (\w+): from=<c(\d+)@example\.org>", log)}
    return seen, said


@needs
def test_xforward_names_the_client_of_every_message_over_shared_connections():
    log = run("xforward", "smtpd_authorized_xforward_hosts = 127.0.0.0/8", 1)
    seen, said = clients_of(log, r"client=unknown\[127\.0\.0\.1\], .*orig_client=unknown\[127\.0\.1\.(\d+)\]")
    assert len(said) == MESSAGES and seen == said
    assert len(set(seen.values())) == ADDRESSES
    connections = len(re.findall(r"smtpd\[\d+\]: connect from", log))
    assert connections < MESSAGES / 10, connections
    print("connections for %d sessions: %d" % (MESSAGES, connections))


@needs
def test_xclient_names_the_client_of_every_message():
    log = run("xclient", "", 4)
    seen, said = clients_of(log, r"client=unknown\[127\.0\.1\.(\d+)\]")
    assert len(said) == MESSAGES and seen == said
    assert len(set(seen.values())) == ADDRESSES


@needs
@pytest.mark.parametrize("identity", ["proxy", "proxy_v1"])
def test_a_proxy_header_makes_the_client_the_peer(identity):
    log = run(identity, "smtpd_upstream_proxy_protocol = haproxy", 4)
    seen, said = clients_of(log, r"client=unknown\[127\.0\.1\.(\d+)\]")
    assert len(said) == MESSAGES and seen == said
    assert len(set(seen.values())) == ADDRESSES
    assert set(re.findall(r" connect from \S+\[127\.0\.1\.(\d+)\]", log)) == {str(n + 1) for n in range(ADDRESSES)}
    assert "error" not in log


@needs
@pytest.mark.parametrize("identity, warned", [("none", True), ("xforward", True), ("xclient", False)])
def test_a_probe_warns_of_a_postfix_that_trusts_our_address(identity, warned):
    """mynetworks names us, as it does on most machines: told nothing of the client, it would relay for the world."""
    postfix = Postfix("discard", """smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
virtual_mailbox_domains = example.net
""")
    conf = os.path.join(postfix.folder, "sluice.lua")
    with open(conf, "w") as f:
        f.write('hostname "mx.test"\nbackend "b" { "127.0.0.1:%d", identity = "%s" }\nlisten "l" { "127.0.0.1:0" }\n'
                % (postfix.port, identity))
    try:
        said = subprocess.run([SLUICE, "check", "-c", conf, "--probe"], capture_output=True, text=True, timeout=60).stdout
        assert ": reached" in said and ("open relay in waiting" in said) == warned, said
        assert "DATA" not in postfix.log()
    finally:
        postfix.stop()
