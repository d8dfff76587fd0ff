"""The written sessions of the differential test: {name: steps}, see talk.py. One oddity each, so that one difference hides no other."""
from talk import TLS, bdat, data, group, raw

FROM, TO = "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"
MAIL = b"Subject: x\r\nMessage-Id: <1@example.org>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: a@example.org\r\n\r\nHello\r\n"
SESSIONS = {}


def add(name, *steps):
    assert name not in SESSIONS, name
    SESSIONS[name] = list(steps)


def whole(name, mail=FROM, rcpt=TO, hello="EHLO client.example.org", content=MAIL):
    """A session that ends in a delivery, if all of it is taken."""
    add(name, *([hello] if hello else []), mail, *([rcpt] if isinstance(rcpt, str) else rcpt), data(content))


# names of clients
for n, name in enumerate(["client.example.org", "CLIENT.Example.org", "localhost", "x", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[192.0.2.1",
                          "192.0.2.1", "x_y.example.org", "-x.example.org", "two words", "three  more words", "(comment)", "<x>", "x>", "x;y",
                          '"x"', "a,b", "x.", ".", "-", "m\xc3\xbcller.example.org", "m\xfcller.example.org", "x\x01y", "x\x7fy", "x\t y",
                          "a@b", "=?utf-8?q?x?=", "x" * 250, "x" * 300, "x" * 1000, "x+20y", "100%", "\\", "'x'"]):
    whole("ehlo-%02d" % n, hello="EHLO " + name)
whole("ehlo-tab", hello="EHLO\tx.example.org")
whole("ehlo-blanks", hello="EHLO   x.example.org  ")
whole("ehlo-trailing-tab", hello="EHLO x.example.org\t")
whole("ehlo-lower", hello="ehlo x.example.org")
whole("ehlo-mixed", hello="eHlO x.example.org")
whole("helo", hello="HELO x.example.org")
whole("helo-words", hello="HELO two words")
whole("no-hello", hello=None)
add("ehlo-empty", "EHLO", "EHLO ", "HELO", "EHLO x.example.org")
add("ehlo-twice", "EHLO a.example.org", "EHLO b.example.org", FROM, TO, data(MAIL))
add("ehlo-ends-transaction", "EHLO a.example.org", FROM, TO, "EHLO b.example.org", TO, FROM, TO, data(MAIL))
add("helo-ends-transaction", "EHLO a.example.org", FROM, TO, "HELO b.example.org", "DATA", FROM, TO, data(MAIL))

# verbs
for n, line in enumerate(["NOOP", "NOOP x", "NOOP  two words", "noop", " NOOP", "\tNOOP", "NOOP\t", "NOOP\tx", "RSET", "RSET x", "rset ", "VRFY",
                          "VRFY b@example.net", "VRFY <b@example.net>", "VRFY b c", "HELP", "HELP MAIL", "EXPN b", "TURN", "ETRN example.net",
                          "FOO", "FOO bar", "NOOPX", "", "   ", "\xff", "FOO\xff", "NOOP \xc3\xbc", "NOOP:", "MAIL", "MAIL FROM", "MAIL TO:<x@y>",
                          "RCPT", "RCPT TO:", "DATA", "DATA x", "BDAT", "BDAT x", "BDAT 1 x y", "STARTTLS x", "LHLO x", "XEXCH50 1 1",
                          "GET / HTTP/1.1", "Subject: x", "CONNECT x:25 HTTP/1.0", "AUTH", "AUTH PLAIN", "AUTH LOGIN", "ATRN", "SEND FROM:<x@y>",
                          "XFOO", "NOOP " + "x" * 400, "NOOP " + "x" * 1500, "X" * 1900]):
    add("verb-%02d" % n, "EHLO x.example.org", line, "NOOP")
    add("verb-early-%02d" % n, line, "NOOP")
add("quit-words", "EHLO x.example.org", "QUIT now")
add("quit-early", "QUIT")
add("quit-in-transaction", "EHLO x.example.org", FROM, TO, "QUIT")
add("data-words", "EHLO x.example.org", FROM, TO, "DATA x", data(MAIL))

# paths
PATHS = ["<a@example.org>", "<A.B@Example.ORG>", "<A@EXAMPLE.ORG>", "a@example.org", " a@example.org", " <a@example.org>", "\t<a@example.org>",
         "   <a@example.org>  ", "< a@example.org >", "<a @example.org>", "<a@ example.org>", "<a@example.org > ", "<do..como@example.org>",
         "<.a@example.org>", "<a.@example.org>", "<.a..b.@example.org>", "do..como@example.org", "<a@example.org.>", "<a@Example.org.>",
         "<a@example.org..>", "<a@example..org>", "<a@.example.org>", "<root>", "root", "<Postmaster>", "<a+b@example.org>", "<a=b@example.org>",
         "<a%b@example.org>", "<a!b@example.org>", "<a/b@example.org>", "<a'b@example.org>", "<{a}|b~c`d@example.org>", "<#@example.org>",
         "<a_b@example.org>", "<_@example.org>", "<-a@example.org>", "<1@example.org>", '<"a b"@example.org>', '<"a"@example.org>',
         '<"a\\"b"@example.org>', '<"a\\\\b"@example.org>', '<"a\\bc"@example.org>', '<"a>b"@example.org>', '<"<a"@example.org>', '<"a@b"@example.org>',
         '<"a,b"@example.org>', '<"a..b"@example.org>', '<" "@example.org>', '"a b"@example.org', '<a."b".c@example.org>', '<"a"."b"@example.org>',
         "<a:b@example.org>", "<a@[192.0.2.1]>", "<a@[IPv6:2001:DB8::25]>", "<a@[ipv6:2001:db8:0::25]>", "<a@[IPv6:::ffff:192.0.2.1]>", "<a@[::1]>",
         "<a@192.0.2.1>", "<a@[192.0.2]>", "<a@[x]>", "<a@[foo:bar]>", "<a@[]>", "<a@>", "<@>", "<@example.org>", "<>", "< >", '<"">',
         '<""@example.org>', "<@x.example:a@example.org>", "<@x.example,@y.example:a@example.org>", "<@x.example:>", "<@x.example:root>",
         "<@x.example:do..como@example.org>", "<<a@example.org>>", "<a@b@example.org>", "<a@@example.org>", "<a(c)@example.org>",
         "<a@example.org(c)>", "(c)<a@example.org>", "Name <a@example.org>", '"Name" <a@example.org>', "<a@example.org>,<c@example.org>",
         "<a@example.org,c@example.org>", "<a b@example.org>", "<a@example.org", "a@example.org>", "<a>b@example.org>", '<"a@example.org>',
         '<"a"b@example.org>', "<a\\@b@example.org>", "<a\\ b@example.org>", "<a;b@example.org>", "<a,b@example.org>", "[a@example.org]",
         "<a@-example.org>", "<a@example-.org>", "<a@ex_ample.org>", "<a@ex!ample.org>", "<a!b>", "<a%b>", "<.>", "<..@example.org>",
         "<m\xc3\xbcller@example.org>", "m\xc3\xbcller@example.org", "<m\xfcller@example.org>", "<a@m\xc3\xbcller.example>", "<a@m\xfcller.example>",
         "<a\x01b@example.org>", '<"a\x01b"@example.org>', "<" + "a" * 64 + "@example.org>", "<" + "a" * 65 + "@example.org>",
         "<" + "a" * 300 + "@example.org>", "<a@" + "b" * 63 + ".example>", "<a@" + "b" * 64 + ".example>", "<a@" + "bc." * 80 + "example>",
         "<a@xn--mller-kva.example>", "<a@example>", "<a@localhost>", ":<a@example.org>", "<a@example.org>x", "<a@example.org>SIZE=1", "", "x y"]
PATHS += ["<Some Name <a@example.org>>", '<"N., <x@y>" M. < a@example.org > >', "<x <>>", "<x, y <a@example.org>>", "<x@y <a@example.org>>",
          "<x (y) <a@example.org>>", "<x <y <a@example.org>>>", "<x <a@example.org> y>", "<=?utf-8?q?x?= <a@example.org>>", "< <a@example.org>>",
          "<x. <a@example.org>>", '<"x" <a@example.org>>', "<x <@y.example:a@example.org>>", "<x <a@example.org.>>", "<x<a@example.org>>",
          "<x <a b@example.org>>", "<x <root>>", "<x\t<a@example.org>>", "<.x <a@example.org>>", "<% <a@example.org>>"]
for n, path in enumerate(PATHS):
    whole("from-%03d" % n, mail="MAIL FROM:" + path)
    whole("to-%03d" % n, rcpt="RCPT TO:" + path)
for n, head in enumerate(["MAIL FROM :<a@example.org>", "MAIL  FROM:<a@example.org>", "MAIL\tFROM:<a@example.org>", "mail from:<a@example.org>",
                          "MAIL From: <a@example.org>", "MAIL FROM=<a@example.org>", "MAIL FROM<a@example.org>", "MAILFROM:<a@example.org>",
                          "MAIL:FROM:<a@example.org>", " MAIL FROM:<a@example.org>", "MAIL FROM:<a@example.org> ", "MAIL FROM:<a@example.org>\t"]):
    whole("mail-%02d" % n, mail=head)
    whole("rcpt-%02d" % n, rcpt=head.replace("MAIL", "RCPT").replace("mail", "rcpt").replace("FROM", "TO").replace("From", "To")
          .replace("from", "to").replace("<a@example.org>", "<b@example.net>"))

# parameters
for n, words in enumerate(["SIZE=100", "size=100", "SIZE=0", "SIZE=", "SIZE", "SIZE=-1", "SIZE=1x", "SIZE=268435456", "SIZE=268435457",
                           "SIZE=99999999999", "SIZE=99999999999999999999999", "SIZE=1 SIZE=2", "BODY=7BIT", "BODY=8BITMIME", "body=8bitmime",
                           "BODY=7BIT BODY=8BITMIME", "BODY=", "BODY=x", "BODY=BINARYMIME", "SMTPUTF8", "smtputf8", "SMTPUTF8 SMTPUTF8",
                           "SMTPUTF8=x", "AUTH=<>", "AUTH=a@example.org", "AUTH=", "RET=FULL", "RET=hdrs", "RET=x", "RET=", "RET=FULL RET=HDRS",
                           "ENVID=abc", "ENVID=a+3Db", "ENVID=a+3db", "ENVID=a=b", "ENVID=", "ENVID=a+", "ENVID=a+0A", "ENVID=a+C3+BC",
                           "ENVID=a ENVID=b", "ENVID=" + "x" * 100, "ENVID=" + "x" * 101, "ENVID=" + "x" * 500, "NOTIFY=NEVER", "REQUIRETLS",
                           "MT-PRIORITY=3", "BY=60;R", "HOLDFOR=60", "XVERP", "FOO", "FOO=bar", "=", "=x", "-=x", "SIZE=1\tBODY=7BIT",
                           "  SIZE=1   BODY=7BIT ", "SIZE=1 BODY=8BITMIME RET=FULL ENVID=abc SMTPUTF8", "RET=FULL ENVID=QQ+2B+3D"]):
    whole("mail-param-%02d" % n, mail=FROM + " " + words)
    if n < 43:
        whole("helo-param-%02d" % n, mail=FROM + " " + words, hello="HELO x.example.org")
for n, words in enumerate(["NOTIFY=NEVER", "notify=never", "NOTIFY=SUCCESS", "NOTIFY=SUCCESS,FAILURE,DELAY", "NOTIFY=SUCCESS,", "NOTIFY=,SUCCESS",
                           "NOTIFY=SUCCESS,,DELAY", "NOTIFY=", "NOTIFY=,", "NOTIFY", "NOTIFY=x", "NOTIFY=NEVER,SUCCESS", "NOTIFY=DELAY,DELAY",
                           "NOTIFY=DELAY NOTIFY=DELAY", "ORCPT=rfc822;b@example.net", "ORCPT=rfc822;b+2Bc@example.net", "ORCPT=rfc822;b+2bc@example.net",
                           "ORCPT=rfc822;a=b@example.net", "ORCPT=b@example.net", "ORCPT=rfc822;", "ORCPT=;b", "ORCPT=", "ORCPT=rfc_822;b",
                           "ORCPT=rfc822;b+", "ORCPT=rfc822;b+0Ac", "ORCPT=rfc822;b ORCPT=rfc822;c", "ORCPT=rfc822;m\xc3\xbc@example.net",
                           "ORCPT=utf-8;m\xc3\xbc@example.net", "ORCPT=utf-8;m\\x{FC}@example.net", "ORCPT=rfc822;<b@example.net>",
                           "ORCPT=rfc822;" + "x" * 480, 'ORCPT=rfc822;"b+20c"@example.net', 'ORCPT=rfc822;"b c"@example.net', "SIZE=1", "FOO=bar",
                           "NOTIFY=NEVER ORCPT=rfc822;b@example.net", "\tNOTIFY=NEVER"]):
    whole("rcpt-param-%02d" % n, rcpt=TO + " " + words)
whole("utf8-domain", mail="MAIL FROM:<a@m\xc3\xbcller.example> SMTPUTF8")
whole("utf8-both", mail="MAIL FROM:<m\xc3\xbc@m\xc3\xbcller.example> SMTPUTF8", rcpt="RCPT TO:<\xc3\xa9@m\xc3\xbcller.example>")

add("auth-behind-refused", "EHLO x.example.org", FROM + " AUTH=a@example.org SIZE=x", FROM + " AUTH=a@example.org", FROM, TO, data(MAIL))

# sequences
add("mail-twice", "EHLO x.example.org", FROM, FROM, TO, data(MAIL))
add("rcpt-first", "EHLO x.example.org", TO, FROM, TO, data(MAIL))
add("data-first", "EHLO x.example.org", "DATA", FROM, "DATA", TO, data(MAIL))
add("rset-between", "EHLO x.example.org", FROM, TO, "RSET", TO, FROM, TO, data(MAIL))
add("noop-between", "EHLO x.example.org", FROM, "NOOP", TO, "VRFY b@example.net", data(MAIL))
add("three-mails", "EHLO x.example.org", *[FROM, TO, data(MAIL)] * 3)
add("three-mails-helo", "HELO x.example.org", *[FROM, TO, data(MAIL)] * 3)
add("three-mails-no-hello", *[FROM, TO, data(MAIL)] * 3)
add("same-rcpt-twice", "EHLO x.example.org", FROM, TO, TO, data(MAIL))
add("same-rcpt-two-spellings", "EHLO x.example.org", FROM, TO, 'RCPT TO:<"b"@Example.net>', data(MAIL))
add("refused-rcpt", "EHLO x.example.org", FROM, "RCPT TO:<unknown@example.net>", "DATA", TO, data(MAIL))
add("refused-among-others", "EHLO x.example.org", FROM, TO, "RCPT TO:<unknown@example.net>", "RCPT TO:<c@example.net>", data(MAIL))
add("many-rcpts", "EHLO x.example.org", FROM, *["RCPT TO:<r%d@example.net>" % i for i in range(40)], data(MAIL))
add("bad-mail-then-good", "EHLO x.example.org", "MAIL FROM:<<a>", FROM, TO, data(MAIL))
add("starttls", "EHLO x.example.org", TLS, "EHLO x.example.org", FROM, TO, data(MAIL))
add("starttls-early", TLS, "EHLO x.example.org", FROM, TO, data(MAIL))
add("starttls-no-hello-behind", "EHLO x.example.org", TLS, FROM, TO, data(MAIL))
add("starttls-twice", "EHLO x.example.org", TLS, "EHLO x.example.org", "STARTTLS", "NOOP")
add("starttls-in-transaction", "EHLO x.example.org", FROM, "STARTTLS", TO, data(MAIL))
add("ten-errors", "EHLO x.example.org", *["FOO"] * 10, "NOOP")

# pipelining
add("pipe-envelope", "EHLO x.example.org", group(FROM, TO, "DATA"), raw(MAIL + b".\r\n"))
add("pipe-rcpts", "EHLO x.example.org", group(FROM, *["RCPT TO:<r%d@example.net>" % i for i in range(20)], "DATA"), raw(MAIL + b".\r\n"))
add("pipe-refused", "EHLO x.example.org", group(FROM, "RCPT TO:<unknown@example.net>", "DATA"), "RSET", FROM, TO, data(MAIL))
add("pipe-next-behind-content", "EHLO x.example.org", FROM, TO, "DATA", raw(MAIL + b".\r\n" + (FROM + "\r\n" + TO + "\r\n").encode(), 3), data(MAIL))
add("pipe-quit", "EHLO x.example.org", FROM, TO, "DATA", raw(MAIL + b".\r\nQUIT\r\n", 2))
add("pipe-noops", "EHLO x.example.org", group(*["NOOP"] * 20), "NOOP")
add("pipe-rset", "EHLO x.example.org", group(FROM, TO, "RSET", FROM, TO), data(MAIL))
add("pipe-bad-first", "EHLO x.example.org", group("MAIL FROM:<<a>", TO, "DATA"), "NOOP")
add("pipe-behind-ehlo", group("EHLO x.example.org", FROM, TO), data(MAIL))
add("pipe-behind-helo", "HELO x.example.org", group(FROM, TO), data(MAIL))
add("pipe-behind-data", "EHLO x.example.org", FROM, TO, raw(b"DATA\r\n" + MAIL + b".\r\n", 2))

# BDAT
add("bdat", "EHLO x.example.org", FROM, TO, bdat(MAIL))
add("bdat-chunks", "EHLO x.example.org", FROM, TO, bdat(MAIL[:10], False), bdat(MAIL[10:40], False), bdat(MAIL[40:]))
add("bdat-empty-last", "EHLO x.example.org", FROM, TO, bdat(MAIL, False), bdat(b""))
add("bdat-no-end", "EHLO x.example.org", FROM, TO, bdat(MAIL + b"no end"))
add("bdat-dots", "EHLO x.example.org", FROM, TO, bdat(MAIL + b".\r\n..\r\n.x\r\n"))
add("bdat-pipelined", "EHLO x.example.org", group(FROM, TO, bdat(MAIL)))
add("bdat-helo", "HELO x.example.org", FROM, TO, bdat(MAIL))
add("bdat-no-rcpt", "EHLO x.example.org", FROM, bdat(MAIL), "RSET", FROM, TO, data(MAIL))
add("bdat-refused-rcpt", "EHLO x.example.org", FROM, "RCPT TO:<unknown@example.net>", bdat(MAIL), "RSET", FROM, TO, data(MAIL))
add("bdat-lower", "EHLO x.example.org", FROM, TO, raw(b"bdat %d last\r\n" % len(MAIL) + MAIL))
add("bdat-zero", "EHLO x.example.org", FROM, TO, bdat(b"", False), bdat(MAIL))
add("bdat-then-data", "EHLO x.example.org", FROM, TO, bdat(MAIL, False), "DATA", "RSET", FROM, TO, data(MAIL))
add("bdat-empty", "EHLO x.example.org", FROM, TO, bdat(b""))
add("bdat-two-mails", "EHLO x.example.org", FROM, TO, bdat(MAIL), FROM, TO, data(MAIL))

add("bdat-blank-first", "EHLO x.example.org", FROM, TO, bdat(b" x\r\n", False), bdat(MAIL))
add("comma-behind", "EHLO x.example.org", FROM, "RCPT TO:b@example.net,", "RCPT TO:<b@example.net>,")
add("bdat-mbox-line", "EHLO x.example.org", FROM, TO, bdat(b"From a@example.org Thu Jan  1 00:00:00 2026\r\n", False), bdat(MAIL))

# contents
HEAD = MAIL[:MAIL.index(b"\r\n\r\n") + 2]
CONTENTS = {
    "empty": b"", "only-crlf": b"\r\n", "no-header": b"\r\nHello\r\n", "body-only": b"Hello there\r\n", "header-only": HEAD,
    "header-and-empty-body": HEAD + b"\r\n", "dots": HEAD + b"\r\n..\r\n..x\r\n...\r\nx.\r\n. \r\n", "tabs": HEAD + b"\r\n\t\t x \r\n",
    "trailing-blanks": HEAD + b"\r\nx  \r\n   \r\n\r\n\r\n", "8bit": HEAD + b"\r\n\xe9\xff\x80\r\n", "utf8": HEAD + b"\r\n\xc3\xa9\r\n",
    "controls": HEAD + b"\r\n\x01\x02\x1b\x7f\x08\x0c\x0b\r\n", "line-998": HEAD + b"\r\n" + b"x" * 998 + b"\r\n",
    "line-5000": HEAD + b"\r\n" + b"x" * 5000 + b"\r\n", "line-100k": HEAD + b"\r\n" + b"x" * 100000 + b"\r\n",
    "500k": HEAD + b"\r\n" + b"a line of text that says nothing\r\n" * 15000, "from-line": b"From a@example.org Thu Jan  1 00:00:00 2026\r\n" + MAIL,
    "gt-from-line": b">From a@example.org Thu Jan  1 00:00:00 2026\r\n" + MAIL, "body-from": HEAD + b"\r\nFrom here on\r\n",
    "no-blank-line": HEAD + b"this is no field\r\nx\r\n", "odd-first": b"this is no field\r\n" + MAIL, "blank-first": b" x\r\n" + MAIL,
    "dot-blank-first": b". x\r\n" + MAIL, "dot-from-first": b".From x\r\n" + MAIL,
    "tab-first": b"\tx\r\n" + MAIL, "colon-first": b": x\r\n" + MAIL, "space-before-colon": b"X-Odd : x\r\n" + MAIL, "empty-value": b"X-Odd:\r\n" + MAIL,
    "no-space": b"X-Odd:x\r\n" + MAIL, "many-spaces": b"X-Odd:     x   \r\n" + MAIL, "tab-value": b"X-Odd:\tx\t\r\n" + MAIL,
    "folded": b"X-Odd: x\r\n y\r\n\tz\r\n" + MAIL, "folded-empty": b"X-Odd:\r\n x\r\n" + MAIL, "folded-blank-line": b"X-Odd: x\r\n  \r\n y\r\n" + MAIL,
    "fold-of-blanks": b"X-Odd: x\r\n   \r\n" + MAIL, "8bit-value": b"X-Odd: \xe9\xff\r\n" + MAIL, "8bit-name": b"X-\xc3\xa9: x\r\n" + MAIL,
    "utf8-value": b"X-Odd: \xc3\xa9\r\n" + MAIL, "control-value": b"X-Odd: a\x01b\x1b\r\n" + MAIL, "long-field": b"X-Odd: " + b"x" * 3000 + b"\r\n" + MAIL,
    "long-folded": b"X-Odd: x\r\n" + b" yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 300 + MAIL, "no-from": b"Subject: x\r\n\r\nx\r\n", "no-date": b"From: a@example.org\r\n\r\nx\r\n",
    "two-subjects": b"Subject: y\r\n" + MAIL, "two-froms": b"From: c@example.org\r\n" + MAIL, "upper-names": MAIL.replace(b"Subject", b"SUBJECT"),
    "encoded-word": b"X-Odd: =?utf-8?q?=C3=A9?= x\r\n" + MAIL, "raw-address": b"To: undisclosed-recipients:;\r\nCc: b\r\n" + MAIL,
    "comment-address": b"To: b@example.net (B (nested))\r\n" + MAIL, "group": b"To: all: b@example.net, c@example.net;\r\n" + MAIL,
    "bcc": b"Bcc: c@example.net\r\n" + MAIL, "return-path": b"Return-Path: <x@example.org>\r\n" + MAIL, "resent": b"Resent-From: x@example.org\r\n" + MAIL,
    "received": b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * 20 + MAIL, "delivered-to": b"Delivered-To: someone@example.com\r\n" + MAIL,
    "content-length": b"Content-Length: 3\r\n" + MAIL, "errors-to": b"Errors-To: x@example.org\r\n" + MAIL, "dkim":
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x;\r\n\th=From:To;\r\n\tbh=abc=;\r\n\tb=abc\r\n\t def=\r\n" + MAIL,
    "mime": b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n" + HEAD + b"\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n",
    "mime-open": b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n" + HEAD + b"\r\n--b\r\n\r\nx\r\n",
    "many-fields": b"".join(b"X-F%d: x\r\n" % i for i in range(500)) + MAIL, "eof-like": HEAD + b"\r\nQUIT\r\nRSET\r\n", "bare-lf": HEAD + b"\r\nx\ny\r\n",
    "bare-cr": HEAD + b"\r\nx\ry\r\n", "nul": HEAD + b"\r\nx\0y\r\n", "bare-lf-header": b"X-Odd: x\n" + MAIL, "cr-cr-lf": HEAD + b"\r\nx\r\r\n",
    "hops": b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * 60 + MAIL,
}
for name, content in CONTENTS.items():
    whole("content-" + name, content=content)
for name in ["8bit", "utf8-value", "from-line", "folded", "dots", "line-5000", "mime", "tab-first"]:
    add("bdat-content-" + name, "EHLO x.example.org", FROM, TO, bdat(CONTENTS[name]))
    whole("8bitmime-content-" + name, mail=FROM + " BODY=8BITMIME", content=CONTENTS[name])
    whole("helo-content-" + name, hello="HELO x.example.org", content=CONTENTS[name])
whole("smtputf8-content", mail=FROM + " SMTPUTF8", content=CONTENTS["utf8-value"])
whole("null-sender", mail="MAIL FROM:<>")
whole("long-orcpt", rcpt=TO + " ORCPT=rfc822;" + "a" * 900)
whole("longer-orcpt", rcpt=TO + " ORCPT=rfc822;" + "a" * 1300)
whole("dot-in-the-middle", content=HEAD + b"\r\nx\r\n..\r\ny\r\n")
add("lf-command", raw(b"EHLO x.example.org\n"), FROM, TO, data(MAIL))
add("cr-command", raw(b"NOOP x\rNOOP\r\n", 1), "NOOP")
add("nul-command", raw(b"NOOP x\0y\r\n", 1), "NOOP")
add("early", raw(b"EHLO x.example.org\r\nNOOP\r\n", 2), "NOOP")
