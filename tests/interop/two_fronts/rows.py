"""The differences that may be: each is a row of docs/milter.md, "What differs", named by its subject. A row here is of a reply, of a
recipient or of what is delivered; a row there that no message can show through Postfix is in ELSEWHERE, with the test that has it."""
import os
import re

from gateway import ROOT

REPLIES, MAILS = {}, {}
OWN = [(re.compile(rb"(?m)^Message-Id: <\w+(?:\.\w+)?@mta\.example\.net>\r$"), b"Message-Id: (own)\r"),
       (re.compile(rb"(?m)^Date: \w{3}, [ \d]?\d \w{3} \d{4} [\d:]{8} \+0000 \(UTC\)\r$"), b"Date: (own)\r")]
ELSEWHERE = {
    "replies of the next hop, reply hooks, `reword`": "dialog/test_milter.py: refused at load",
    "`route`": "dialog/test_milter.py",
    "quarantine": "held in both: here the proxy's quarantine backend is a Postfix that holds",
    "Received, `hops`, `loops`": "fronts.py: trace fields are set apart",
    'a value that is set to ""': "dialog/test_milter.py: without LEADSPC",
    "blanks before a colon": "dialog/test_milter.py; Postfix delivers it without in both",
    "recipients that the MTA refuses": "no reply hook may be in the chain",
    "recipients that are discarded": "Sendmail's aliases",
    "parameters of an added recipient, or a changed sender": "milter/test_milter_front.py",
    "the text of refusals at mail and rcpt": "Sendmail: milter/test_milter_front.py",
    "250 to the end of mail data": "what it means, not what is said",
    "limits of the client's session, TLS, AUTH, PROXY": "they are the MTA's",
}


def documented():
    with open(os.path.join(ROOT, "docs", "milter.md")) as f:
        table = f.read().partition("## What differs")[2].partition("\n## ")[0]
    return [row for row in re.findall(r"(?m)^\| (.*?) \|", table) if row != "subject"]


def row(rows, subject):
    def of(function):
        assert subject not in rows
        rows[subject] = function
        return function
    return of


# ---- replies: (the milter's reply, the proxy's, the proxy's reply before it). What comes behind in the session follows from it.

@row(REPLIES, "bare CR and LF in content")
def _(a, b, before):
    return a.code == 250 and b.code == 550 and b.text == "5.5.2 Bare CR or bare LF in mail data\n"


@row(REPLIES, "a field over 65,535 octets")
def _(a, b, before):
    return a.to == "." and a.code == 451 and b.code == 250


@row(REPLIES, "`drop` with 554")
def _(a, b, before):
    return a.code and not b.code and before.code == 554 and before.text == "5.7.0 SAID cut\n"


@row(REPLIES, "the text of a refusal at connect")
def _(a, b, before):
    at_once = a.to == "" and a.code == b.code and a.text.startswith("mta.example.net ") and "SAID" in b.text
    return at_once or (a.to.startswith("RCPT") and a.code == 503 and b.code == 451 and b.text == before.text)


@row(REPLIES, "a refusal at helo")
def _(a, b, before):
    return a.to.startswith("EHLO helo-") and a.code == 250 and b.code // 100 in (4, 5)


# ---- what is delivered: a mail, made the same in both fronts. mail is (sender, recipients, content); sent: the content that was sent.

def fields_of(content):
    head, end, body = content.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", head), end + body


def without(content, goes):
    fields, rest = fields_of(content)
    return b"\r\n".join(f for f in fields if not goes(f)) + rest


def at_the_bottom(content, names):
    fields, rest = fields_of(content)
    moved = [f for f in fields if f.partition(b":")[0] in names]
    return b"\r\n".join([f for f in fields if f not in moved] + moved) + rest


@row(MAILS, "a field added between two others, or renamed")
def _(mail, sent):
    content = at_the_bottom(mail[2], (b"X-Between", b"X-Renamed"))
    return mail[0], mail[1], re.sub(rb"(?m)^SUBJECT:", b"Subject:", content)


@row(MAILS, "Message-Id, Date, From of a message without")
def _(mail, sent):
    own_from = b"From: " + re.match(r"<(.*?)>", mail[0]).group(1).encode()
    return mail[0], mail[1], without(mail[2], lambda f: f in (b"Message-Id: (own)", b"Date: (own)", own_from))


@row(MAILS, "addresses in fields that a filter writes, of the MTA's own clients")
def _(mail, sent):
    return mail[0], mail[1], mail[2].replace(b"To: user@mta.example.net\r\n", b"To: user\r\n")


@row(MAILS, "an mbox line in front (`>From a`)")
def _(mail, sent):
    return mail[0], mail[1], without(mail[2], lambda f: f.startswith(b"X-Mailbox-Line: >From "))


@row(MAILS, "a NUL in a field")
def _(mail, sent):
    names = {f.partition(b":")[0].strip(b" \t").lower() for f in fields_of(sent)[0] if b"\0" in f}
    return mail[0], mail[1], without(mail[2], lambda f: f.partition(b":")[0].strip(b" \t").lower() in names)


@row(MAILS, "a recipient added twice, or one that is there")
def _(mail, sent):
    return mail[0], sorted({r.lower(): r.lower() for r in mail[1]}.values()), mail[2]


def own_marked(mail):
    """What Postfix itself writes has its clock and its queue id."""
    content = mail[2]
    for pattern, mark in OWN:
        content = pattern.sub(mark, content, count=1)
    return mail[0], mail[1], content
