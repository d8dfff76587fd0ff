"""Sluice with an empty chain in front of Postfix changes nothing that a user would notice: the same sessions, said to a Postfix and to
Sluice before the same Postfix, hear replies of the same class at each command, and what is delivered is the same octet for octet but for
trace fields. What differs is a row of docs/differences.md, and nothing else."""
import os
import re
import shutil
import time

import pytest
from dice import session
from differences import FIRST_LINE, KEYWORDS, NO_HELLO, ROWS, SPELLING, documented, first_difference
from gateway import Gateway, certificate, free_port
from private import Postfix
from sessions import SESSIONS
from talk import data, play, queue_ids

SEEDS, FIRST = int(os.environ.get("SLUICE_SEEDS", "300")), int(os.environ.get("SLUICE_FIRST_SEED", "1"))
needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")
MAIN_CF = """smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1001
smtpd_tls_security_level = may
smtpd_tls_cert_file = %(cert)s/cert.pem
smtpd_tls_key_file = %(cert)s/key.pem
smtpd_client_auth_rate_limit = 0
"""


class Pair:
    """A Postfix, and Sluice before it."""

    def __init__(self, main_cf="", listener=""):
        cert = certificate()
        self.postfix = Postfix("", MAIN_CF % {"cert": cert} + main_cf)
        self.port, self.read = free_port(), 0
        self.done, self.mails, self.notices = set(), {}, {}
        self.gateway = Gateway("""hostname "mta.example.net"
tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }
backend "postfix" { "127.0.0.1:%d", identity = "xclient" }
listen "l" { "127.0.0.1:%d", tls = "t", %s limits = { connections_per_client = 0, size = 0, errors = 1000 } }
""" % (cert, cert, self.postfix.port, self.port, listener)).start()

    def stop(self):
        wrong = self.gateway.stop()
        self.postfix.stop()
        assert wrong == ""

    def look(self):
        """Reads on in Postfix' log, and takes the mail that has come."""
        with open(self.postfix.folder + "/log", "rb") as f:
            f.seek(self.read)
            text = f.read()
        text = text[:text.rfind(b"\n") + 1]
        self.read += len(text)
        text = text.decode(errors="replace")
        self.done |= set(re.findall(r": (\w+): removed", text))
        for of, notice in re.findall(r": (\w+): sender (?:delivery status|non-delivery) notification: (\w+)", text):
            self.notices.setdefault(of, set()).add(notice)
        for path in self.postfix.mail():
            with open(path, "rb") as f:
                mail = f.read()
            self.mails.setdefault(queue_id(mail), []).append(mail)
            os.unlink(path)

    def deliveries(self, ids):
        """{queue id: its mail}, once all of them, and what is told of them to the sender, have been dealt with."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self.look()
            if ids | {n for i in ids for n in self.notices.get(i, ())} <= self.done:
                break
            time.sleep(0.2)
        assert ids <= self.done, ids - self.done
        self.look()
        return {i: self.mails.pop(i, []) for i in ids}

    def differences(self, sessions):
        """{name: what is different}, and the names of the rows that were needed."""
        heard = play(sessions.values(), [self.postfix.port, self.port])
        mails = self.deliveries({i for pair in heard for replies in pair for i in queue_ids(replies)})
        found, rows = {}, set()
        for (name, steps), (alone, behind) in zip(sessions.items(), heard):
            row, what = first_difference(alone, behind)
            if not row and not what:
                row, what = other_mail(*[[m for i in queue_ids(replies) for m in sorted(map(trimmed, mails[i]))] for replies in (alone, behind)],
                                       any(re.match("BDAT ", r.to, re.I) for r in alone) or any(map(is_dotted, steps)))
            if row:
                rows.add(row)
            if what:
                found[name] = what
        return found, rows


# Postfix' own trace field: the client's name, the queue id, for whom.
RECEIVED = re.compile(rb"^Received: from (.*) \(.*\]\)(?:\n\t\(.*\))*\n\tby mta\.example\.net \(Postfix\) with \w+ id (\w+)(\n\tfor <.*>)?;(?:\n\t| ).*\n", re.M)
DOTTED = re.compile(rb"^(X-Original-To: .*|Received: from .*\n\tfor .*)\.(>?)$", re.M)


def queue_id(mail):
    return RECEIVED.search(mail).group(2).decode()


def trimmed(mail):
    """Without what must differ: in Postfix' trace field TLS, the queue id and the date. Of what it tells the sender: whom it was for, and
    what became of it."""
    if mail.startswith(b"Return-Path: <>\n") and b"\nAuto-Submitted: auto-replied\n" in mail:
        return b"\n".join(re.findall(rb"^(?:Original-Envelope-Id|Original-Recipient|Final-Recipient|Action|Status): .*", mail, re.M))
    return RECEIVED.sub(lambda m: b"Received: from " + m.group(1) + (m.group(3) or b"") + b"\n", mail, count=1)


CHANGES = {
    SPELLING: lambda mail: DOTTED.sub(rb"\1\2", mail),
    NO_HELLO: lambda mail: re.sub(rb"^Received: from unknown$", b"Received: from mta.example.net", mail, count=1, flags=re.M),
}


def without_first_lines(mail):
    """As if Postfix made the same of lines at the head of content, or of a chunk, that are no fields."""
    return re.sub(rb"[ \t]+:|\n\n+|X-Mailbox-Line: ", lambda m: {b":": b":", b"\n": b"\n"}.get(m.group(0)[-1:], b""), mail)


def is_dotted(step):
    """Content behind DATA that begins with a dot which none of its octets needs: Postfix looks at the first line before it takes that off."""
    return step[:1] == ("data",) and re.match(rb"\.(?:[ \t]|>*From )", step[1])


def other_mail(alone, behind, first):
    """Of what was delivered, as first_difference. first: its first lines may differ."""
    if alone == behind:
        return None, None
    one, other, seen = alone, behind, None
    for row, change in CHANGES.items():
        changed = [change(m) for m in one]
        if changed != one:
            one, seen = changed, row
    if first and sorted(one) != sorted(other):
        one, other, seen = list(map(without_first_lines, one)), list(map(without_first_lines, other)), FIRST_LINE
    if sorted(one) == sorted(other):
        return seen, None
    if set(one) == set(other) and len(one) > len(other):
        return SPELLING, None
    a, b = next((a, b) for a, b in zip(alone + [b""], behind + [b""]) if a != b)
    return None, "delivered alone:\n%r\nbehind Sluice:\n%r" % (a, b)


@pytest.fixture(scope="module")
def pair():
    p = Pair()
    yield p
    p.stop()


@needs
def test_written_sessions_differ_only_where_the_table_says_so(pair):
    found, rows = pair.differences(SESSIONS)
    assert not found, "\n\n".join("%s: %s" % f for f in found.items())
    assert rows == set(ROWS) | {SPELLING, NO_HELLO, FIRST_LINE}


@needs
def test_sessions_by_the_dice_differ_only_where_the_table_says_so(pair):
    """SLUICE_SEEDS of them from SLUICE_FIRST_SEED on."""
    wrong = {}
    for first in range(FIRST, FIRST + SEEDS, 500):
        found, _ = pair.differences({"seed %d" % n: session(n) for n in range(first, min(first + 500, FIRST + SEEDS))})
        wrong.update(found)
    assert not wrong, "\n\n".join("%s: %s" % w for w in list(wrong.items())[:50])


@needs
def test_ehlo_offers_the_same_but_for_the_keywords_of_the_table(pair):
    alone, behind = [set(replies[1].text.split("\n")[1:-1]) for replies in play([["EHLO x.example.org"]], [pair.postfix.port, pair.port])[0]]
    assert {k.split()[0] for k in alone - behind} == {"VRFY", "ETRN", "XCLIENT"} and {k.split()[0] for k in behind - alone} == {"LIMITS"}


@needs
@pytest.mark.parametrize("more, edited", [("local_header_rewrite_clients = permit_inet_interfaces", True), ("", False)])
def test_postfix_as_shipped_edits_mail_from_outside_that_comes_through_xclient(more, edited):
    """Why local_header_rewrite_clients stands in every sample: it looks at the socket, not at what XCLIENT says."""
    p = Pair(more, 'xclient = { "127.0.0.1" },')
    try:
        outside = ["EHLO proxy.example.org", "XCLIENT ADDR=192.0.2.1 NAME=mail.example.org", "EHLO mail.example.org", "MAIL FROM:<a@example.org>",
                   "RCPT TO:<b@example.net>", data("From: a\r\nSubject: x\r\n\r\nx\r\n")]
        ids = queue_ids(play([outside], [p.port])[0][0])
        (mail,), = p.deliveries(set(ids)).values()
        assert b"Received: from mail.example.org (mail.example.org [192.0.2.1])" in mail
        assert (b"\nMessage-Id:" in mail, b"\nDate:" in mail, b"From: a@mta.example.net" in mail) == (edited,) * 3
    finally:
        p.stop()


@needs
@pytest.mark.parametrize("more, says", [
    ("smtpd_client_restrictions = check_client_access inline:{ { 127.0.0.1 = 554 5.7.1 not you } }", (554, "5.7.1", "not you")),
    ("smtpd_helo_restrictions = check_helo_access inline:{ { x.example.org = 550 5.7.1 not so } }", (550, "5.7.1", "not so")),
    ("smtpd_helo_restrictions = reject_non_fqdn_helo_hostname", None)])
def test_what_postfix_says_of_the_client_at_once_is_heard_at_rcpt(more, says):
    """smtpd_delay_reject = no: at the banner, which is behind XCLIENT here, or to EHLO."""
    p = Pair("smtpd_delay_reject = no\nsmtpd_client_event_limit_exceptions =\n" + more.replace("127.0.0.1", "192.0.2.1"), 'xclient = { "127.0.0.1" },')
    try:
        name = "EHLO x.example.org" if says else "EHLO x"
        heard = play([["EHLO proxy.example.org", "XCLIENT ADDR=192.0.2.1 NAME=mail.example.org", name, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>",
                       "RSET"]], [p.port])[0][0]
        code, enhanced, text = says or (504, "5.5.2", "need fully-qualified hostname")
        assert (heard[5].code, heard[5].enhanced) == (code, enhanced) and text in heard[5].text and heard[6].code == 250
        assert "is down" not in p.gateway.log()
    finally:
        p.stop()


def test_the_table_and_the_test_know_the_same_rows():
    assert documented() == list(ROWS) + [KEYWORDS, NO_HELLO, SPELLING, FIRST_LINE]
