"""Odd header sections, and what scripts must read of them where that is certain. Deterministic; own words and addresses only.

SECTIONS: name -> (message, checks). checks: `decoded`, `count`: field -> value; `addresses`: field -> list of [addr, domain];
`display`: field -> list of names; `date`; `message_id`; `auth_results`: id -> { method: result }. Without checks any value is
right, and wrong is only a failure. chance(seed) makes more: pieces of header sections in any order, and the sections above with
octets changed."""
import base64
import calendar
import random
import re

SECTIONS = {}
BASE = {"From": b"From: Rose <rose@example.org>", "To": b"To: Ivy <ivy@example.net>", "Subject": b"Subject: hello",
        "Date": b"Date: Fri, 17 May 2024 12:00:00 +0000"}


def b(x):
    return x if isinstance(x, bytes) else x.encode("utf-8")


def add(name, lines, checks=None, note="", drop=(), raw=None, body=b"Text.\r\n"):
    """lines: fields that stand in place of those of the same name."""
    assert name not in SECTIONS, name
    if raw is None:
        own = [b(line) for line in lines]
        have = {line.split(b":")[0].strip().lower() for line in own}
        rest = [v for k, v in BASE.items() if k.lower().encode() not in have and k not in drop]
        raw = b"\r\n".join(own + rest) + b"\r\n\r\n" + body
    SECTIONS[name] = (raw, checks or {})


# ---- subjects -------------------------------------------------------------------------------------------------------
ANY = object()


def subject(name, value, text=ANY, note=""):
    add("subject-" + name, [b"Subject:" + (b" " if not b(value).startswith((b"\r\n", b"!nospace")) else b"") + b(value).replace(b"!nospace", b"")],
        {} if text is ANY else {"decoded": {"Subject": text}}, note)


def word(text, charset="utf-8", how="B", octets=None):
    data = text.encode(charset) if octets is None else octets
    if how in "Bb":
        return "=?%s?%s?%s?=" % (charset, how, base64.b64encode(data).decode())
    return "=?%s?%s?%s?=" % (charset, how, "".join(chr(c) if chr(c).isalnum() and c < 128 else "_" if c == 32 else "=%02X" % c for c in data))


subject("plain", "hello", "hello")
subject("absent-value", "", "")
subject("only-spaces", "    ", "")
subject("no-space-behind-colon", b"!nospacehello", "hello")
subject("folded", "hello\r\n world", "hello world")
subject("folded-tab", "hello\r\n\tworld", "hello world", "a tab is a space")
subject("folded-first", b"\r\n hello", "hello")
subject("folded-white-line", b"hello\r\n  \r\n world", "hello   world", "every fold keeps its white space")
subject("inner-spaces", "a  b   c", "a  b   c")
LANGS = [("utf-8", "Größe und Maß"), ("iso-8859-1", "Größe"), ("iso-8859-2", "žluťoučký kůň"), ("iso-8859-5", "Привет"), ("iso-8859-7", "Καλημέρα"),
         ("iso-8859-15", "zehn €"), ("windows-1250", "žluťoučký"), ("windows-1251", "Привет, мир"), ("windows-1252", "„so“ – €"), ("windows-1253", "Καλημέρα"),
         ("windows-1254", "Günaydın İş"), ("windows-1255", "שלום"), ("windows-1256", "مرحبا"), ("koi8-r", "Привет"), ("koi8-u", "Привіт"), ("gb2312", "你好世界"),
         ("gbk", "你好朋友"), ("gb18030", "你好𠀀"), ("big5", "你好世界"), ("euc-kr", "안녕하세요"), ("euc-jp", "こんにちは"), ("shift_jis", "こんにちは"),
         ("iso-2022-jp", "こんにちは"), ("iso-8859-9", "Günaydın"), ("tis-620", "สวัสดี"), ("us-ascii", "plain words"), ("utf-7", "Hé"), ("utf-16be", "wide")]
for charset, text in LANGS:
    subject("b-" + charset, word(text, charset), text)
    subject("q-" + charset, word(text, charset, "Q"), text)
for alias, charset, text in (("UTF8", "utf-8", "ä"), ("latin1", "iso-8859-1", "ä"), ("cp1252", "windows-1252", "€"), ("cp1251", "windows-1251", "я"), ("ks_c_5601-1987", "euc-kr", "안녕"),
                             ("x-sjis", "shift_jis", "こん"), ("iso8859-1", "iso-8859-1", "ä"), ("ISO_8859-1", "iso-8859-1", "ä"), ("unicode-1-1-utf-8", "utf-8", "ä"), ("cp-850", "cp850", "ä"),
                             ("x-gbk", "gbk", "你"), ("utf_8", "utf-8", "ä"), ("ansi_x3.4-1968", "us-ascii", "a")):
    subject("alias-" + alias.lower().replace("_", "-").replace(".", "-"), "=?%s?B?%s?=" % (alias, base64.b64encode(text.encode(charset)).decode()),
            text if alias in ("UTF8", "latin1", "cp1252", "cp1251", "iso8859-1", "ISO_8859-1", "ansi_x3.4-1968") else ANY)
subject("lower-case-letters", "=?utf-8?b?w6Q=?= =?utf-8?q?=c3=b6?=", "äö")
subject("two-words-joined", word("Grü") + " " + word("ße"), "Grüße")
subject("two-words-folded", word("Grü") + "\r\n " + word("ße"), "Grüße")
subject("two-words-no-space", word("Grü") + word("ße"), "Grüße", "not legal, read everywhere")
subject("words-and-text", word("Grüße") + " from " + word("Köln"), "Grüße from Köln")
subject("text-then-word", "Re: " + word("Grüße"), "Re: Grüße")
subject("word-glued-to-text", "[X]" + word("ä") + "y", "[X]äy", "not legal, read everywhere")
subject("word-in-quotes", '"' + word("ä") + '"', '"ä"')
subject("word-in-parentheses", "(" + word("ä") + ")", "(ä)")
raw = "日本語".encode()
subject("split-character-b", "=?utf-8?B?%s?= =?utf-8?B?%s?=" % (base64.b64encode(raw[:4]).decode(), base64.b64encode(raw[4:]).decode()), "日本語")
subject("split-character-q", "=?utf-8?Q?=E6=97?= =?utf-8?Q?=A5?=", "日")
subject("split-character-charsets", "=?utf-8?Q?=E6=97?= =?iso-8859-1?Q?=A5?=", "\ufffd¥")
subject("iso2022jp-split", "=?iso-2022-jp?B?GyRCJDMkcw==?= =?iso-2022-jp?B?JEsbKEI=?=", ANY)
subject("iso2022jp-not-closed", "=?iso-2022-jp?B?GyRCJDMkcw==?= plain", ANY)
subject("language", "=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße")
subject("underscore", "=?utf-8?Q?a_b=5Fc?=", "a b_c")
subject("empty-word", "=?utf-8?Q??=", "")
subject("empty-word-between", "a =?utf-8?Q??= b", "a  b")
subject("empty-charset", "=??Q?abc?=", "=??Q?abc?=")
subject("unknown-charset", "=?x-garden?Q?abc?=", "=?x-garden?Q?abc?=")
subject("unknown-charset-beside", "=?x-garden?Q?abc?= " + word("ä"), "=?x-garden?Q?abc?= ä")
subject("unknown-encoding", "=?utf-8?X?abc?=", "=?utf-8?X?abc?=")
subject("long-encoding", "=?utf-8?BB?abc?=", "=?utf-8?BB?abc?=")
subject("not-closed", "=?utf-8?Q?abc", "=?utf-8?Q?abc")
subject("not-closed-then-word", "=?utf-8?Q?abc " + word("ä"), ANY)
subject("space-inside", "=?utf-8?Q?a b?=", "a b", "not legal; readers read it")
subject("question-inside", "=?utf-8?Q?what??=", ANY)
subject("base64-no-padding", "=?utf-8?B?w6R4?= =?utf-8?B?w6Q?=", "äxä")
subject("base64-junk", "=?utf-8?B?w6*R4?=", ANY)
subject("base64-one-digit", "=?utf-8?B?w?=", ANY)
subject("base64-empty", "=?utf-8?B?====?=", ANY)
subject("q-bad-hex", "=?utf-8?Q?a=ZZb?=", ANY)
subject("q-equals-end", "=?utf-8?Q?abc=?=", ANY)
subject("q-raw-8bit", b"=?utf-8?Q?gr\xc3\xbcn?=", ANY)
subject("wrong-utf8", "=?utf-8?Q?Gr=FC=DFe?=", "Gr\ufffd\ufffde")
subject("utf8-overlong", "=?utf-8?Q?=C0=AF?=", "\ufffd\ufffd")
subject("utf8-surrogate", "=?utf-8?Q?=ED=A0=80?=", "\ufffd\ufffd\ufffd")
subject("utf8-cut", "=?utf-8?Q?=E6=97?=", ANY)
subject("utf8-too-high", "=?utf-8?Q?=F4=90=80=80?=", ANY)
subject("ascii-with-8bit", "=?us-ascii?Q?Gr=FC?=", "Gr\ufffd")
subject("raw-utf8", "Grüße", "Grüße")
subject("raw-utf8-and-word", "Grüße " + word("Köln"), "Grüße Köln")
subject("raw-latin1", b"Gr\xfc\xdfe", "Gr\ufffd\ufffde")
subject("raw-latin1-and-word", b"Gr\xfc\xdfe " + b(word("Köln")), "Gr\ufffd\ufffde Köln")
subject("raw-gbk", "你好".encode("gbk"), ANY)
subject("raw-koi8", "Привет".encode("koi8-r"), ANY)
subject("raw-utf8-cut", "Größe".encode()[:4], ANY)
for n, data in (("nul", b"a\0b"), ("bell", b"a\x07b"), ("escape", b"a\x1b[31mb"), ("delete", b"a\x7fb"), ("form-feed", b"a\x0cb"), ("backspaces", b"abc\x08\x08b")):
    subject("raw-" + n, data, data.replace(b"\x08\x08", b" ").decode().translate({c: " " for c in list(range(32)) + [127]}) if n != "backspaces" else "abc b", "a run of control octets is one space")
for n, data, text in (("line-feed", b"Invoice\n", "Invoice"), ("crlf", b"Invoice\r\n", "Invoice"), ("crlf-amid", b"Invoice\r\nBcc: x@example.com", "Invoice Bcc: x@example.com"), ("cr", b"a\rb", "a b"),
                      ("nul-in", b"a\0b", "a b"), ("tab", b"a\tb", "a b"), ("c1", "a\u0085b".encode(), "a b"), ("escape-in", b"a\x1b]0;x\x07b", "a ]0;x b"), ("only-controls", b"\r\n\0", "")):
    subject("word-" + n, "=?utf-8?B?%s?=" % base64.b64encode(data).decode(), text, "control octets are a space, outer ones go")
subject("word-separators", word("a\u2028b\u2029c"), ANY)
subject("word-bidi", word("a\u202eb"), "a\u202eb", "decoded() keeps format characters: they are text")
subject("word-emoji", word("🌹 for you"), "🌹 for you")
subject("word-combining", word("e\u0301"), "e\u0301", "no normalization")
subject("literal-word", "=?utf-8?Q?=3D=3Futf-8=3FQ=3Fevil=3F=3D?=", "=?utf-8?Q?evil?=", "decoded once, never twice")
subject("nested-word-base64", word(word("ä")), word("ä"))
subject("long-word", word("ä" * 400), "ä" * 400)
ALL = ["iso-8859-%d" % i for i in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)] + ["koi8-r", "koi8-u", "big5", "euc-jp", "shift_jis", "cp1250", "cp1251", "cp1253",
                                                                              "cp1254", "euc-kr", "gbk", "gb18030", "cp949", "tis-620", "macintosh", "cp850", "iso-2022-jp", "ibm037"]
subject("charsets-in-turn", " ".join(word("x", c, "Q", b"x") for c in ALL * 300)[:200000])
subject("many-words", "\r\n ".join([word("ä")] * 500), "ä" * 500)
subject("many-beginnings", "=?" * 3000, "=?" * 3000)
subject("many-questions", "=?a?" * 1500, ANY)
subject("100k-ascii", "x" * 100000, "x" * 100000)
subject("100k-folded-words", "\r\n ".join([word("漢" * 15)] * 1400), "漢" * 15 * 1400)
subject("150k-8bit", "ä" * 75000, "ä" * 75000)
subject("9000-folds", "\r\n ".join(["x"] * 9000), " ".join(["x"] * 9000))
subject("tag-already", "[EXT] hello", "[EXT] hello")
subject("tag-already-encoded", word("[EXT] hällo"), "[EXT] hällo")
subject("percent-signs", "100% %s %d %n", "100% %s %d %n")
subject("lua-patterns", "%a+[%s](.-)^$*?", "%a+[%s](.-)^$*?")
subject("backslashes", "a\\nb \\\"c\\\"", "a\\nb \\\"c\\\"")
subject("colon-first", ": hello", ": hello")

# ---- more than one field, odd fields ------------------------------------------------------------------------------------
add("two-subjects", ["Subject: one", "Subject: two"], {"decoded": {"Subject": "one"}, "count": {"Subject": 2}})
add("three-from", ["From: a@example.com", "From: b@example.net", "From: c@example.org"], {"addresses": {"From": [["a@example.com", "example.com"], ["b@example.net", "example.net"], ["c@example.org", "example.org"]]}})
add("no-subject", [], {"count": {"Subject": 0}}, drop=("Subject",))
add("no-from", [], {"count": {"From": 0}}, drop=("From",))
add("no-fields", [], raw=b"\r\nText.\r\n")
add("nothing", [], raw=b"")
add("only-fields", [], raw=b"From: a@example.com\r\nSubject: x\r\n")
add("last-line-cut", [], raw=b"From: a@example.com\r\nSubject: x")
add("subject-name-cases", ["sUbJeCt: hello"], {"decoded": {"Subject": "hello"}})
add("space-before-colon", ["Subject : hello"], {"decoded": {"Subject": "hello"}})
add("tab-before-colon", ["Subject\t: hello"], {"decoded": {"Subject": "hello"}})
add("line-without-colon", [], raw=b"From: a@example.com\r\nthis is no field\r\nSubject: x\r\n\r\nText.\r\n")
add("first-line-folded", [], raw=b" folded: x\r\nSubject: x\r\n\r\nText.\r\n")
add("from-line", [], {"decoded": {"Subject": "hello"}}, raw=b"From a@example.com  Fri May 17 12:00:00 2024\r\nFrom: a@example.com\r\nSubject: hello\r\n\r\nText.\r\n")
add("quoted-from-line", [], {"decoded": {"Subject": "hello"}}, raw=b">From a@example.com  Fri May 17 12:00:00 2024\r\nFrom: a@example.com\r\nSubject: hello\r\n\r\nText.\r\n")
add("byte-order-mark", [], raw=b"\xef\xbb\xbfFrom: a@example.com\r\nSubject: x\r\n\r\nText.\r\n")
add("empty-name", [": x", "Subject: y"])
add("name-8bit", ["Größe: x"])
add("name-with-space", ["My Field: x"])
add("name-control", [b"X\x01: y"])
add("name-nul", [b"X\0: y"])
add("name-70k", [b"X" * 70000 + b": y"])
add("name-odd", ["!#$%&'*+-.^_`|~: x", "Subject: y"], {"decoded": {"Subject": "y"}})
add("2000-fields", ["X-%d: %d" % (i, i) for i in range(2000)], {"decoded": {"Subject": "hello"}})
add("300-received", ["Received: from a.example.org by b.example.org; Fri, 17 May 2024 12:00:00 +0000"] * 300, {"count": {"Received": 300}})
add("value-nul-everywhere", [b"From: a\0@example.com", b"To: b@example.com\0", b"Date: \0", b"Message-ID: <\0>"])
add("value-8bit-everywhere", [b"From: \xff\xfe <a@example.com>", b"To: \xe4", b"Date: \xe4", b"Message-ID: <\xe4@x>"])
add("value-bare-cr", [b"Subject: a\rb"], note="where bare CR is let in")
add("only-continuations", [b"Subject:\r\n \r\n \r\n x"], {"decoded": {"Subject": "x"}})
add("long-fold-white", [b"Subject: a\r\n" + b" " * 5000 + b"b"], {})
add("mime-header-odd", [b"Content-Type: \xff\xff; boundary=\"", b"MIME-Version: (x) 1 . 0"])
add("content-type-in-word", ["Content-Type: =?utf-8?Q?text/plain?="])
for i, (v, want) in enumerate((("<a@example.org>", "a@example.org"), ("a@example.org", None), ("<a@example.org> (x)", "a@example.org"), ("<>", None), ("<a b@example.org>", None), ("<a@example.org", None),
                               ("<a@example.org> <b@example.org>", None), ("<[x]@example.org>", None), (b"<\xe4@example.org>", None), ("<" + "a" * 3000 + "@example.org>", None))):
    add("message-id-%d" % i, [b"Message-ID: " + b(v)], {"message_id": want} if want else {})

# ---- addresses ------------------------------------------------------------------------------------------------------------
def addr(name, value, want=ANY, names_=None, note=""):
    value = [value] if not isinstance(value, list) else value
    checks = {} if want is ANY else {"addresses": {"From": [[a, a.rsplit("@", 1)[1] if "@" in a else ""] for a in want]}}
    if names_ is not None:
        checks["display"] = {"From": names_}
    add("address-" + name, [b"From: " + b(v) for v in value], checks, note)


addr("bare", "a@example.com", ["a@example.com"], [""])
addr("angle", "<a@example.com>", ["a@example.com"], [""])
addr("name", "Rose Bush <a@example.com>", ["a@example.com"], ["Rose Bush"])
addr("quoted-name", '"Bush, Rose" <a@example.com>', ["a@example.com"], ["Bush, Rose"])
addr("name-with-dots", "R. B. Bush <a@example.com>", ["a@example.com"], ["R. B. Bush"])
addr("name-comma-unquoted", "Bush, Rose <a@example.com>", ANY)
addr("name-at-sign", '"ceo@bank.example" <a@example.com>', ["a@example.com"], ["ceo@bank.example"])
addr("name-at-sign-unquoted", "ceo@bank.example <a@example.com>", ANY, note="a reader may take either; a.addr must never be a mixture")
addr("name-word", word("Röse") + " <a@example.com>", ["a@example.com"], ["Röse"])
addr("name-word-quoted", '"' + word("Röse") + '" <a@example.com>', ["a@example.com"], ["Röse"])
addr("name-word-with-address", word("<x@bank.example>") + " <a@example.com>", ["a@example.com"], ["<x@bank.example>"])
addr("name-word-comma", word("a, b@example.net") + " <a@example.com>", ["a@example.com"])
addr("name-word-control", word("Rose\r\nBcc: x") + " <a@example.com>", ["a@example.com"], ["Rose Bcc: x"])
addr("name-word-nul", word("Ro\0se") + " <a@example.com>", ["a@example.com"], ["Ro se"])
addr("name-raw-8bit", b"R\xf6se <a@example.com>", ["a@example.com"], ["R\ufffdse"])
addr("name-utf8", "Röse <a@example.com>", ["a@example.com"], ["Röse"])
addr("whole-in-word", word("Rose <a@example.com>"), ANY)
addr("comment-name", "a@example.com (Rose)", ["a@example.com"])
addr("comments-everywhere", "(x) a (y) @ (z) example (w) . com (v)", ["a@example.com"])
addr("comment-nested", "a@example.com (one (two) three)", ["a@example.com"])
addr("comment-with-address", "(x@bank.example) a@example.com", ["a@example.com"])
addr("comment-with-comma", "a@example.com (x, b@example.net)", ["a@example.com"])
addr("comment-quoted-parenthesis", "a@example.com (x \\) y)", ["a@example.com"])
addr("list", "a@example.com, b@example.net", ["a@example.com", "b@example.net"])
addr("list-empty-items", ",, a@example.com,, ,b@example.net,", ["a@example.com", "b@example.net"])
addr("list-semicolons", "a@example.com; b@example.net", ["a@example.com", "b@example.net"])
addr("list-folded", b"a@example.com,\r\n b@example.net", ["a@example.com", "b@example.net"])
addr("list-spaces", "<a@example.com> <b@example.net>", ["a@example.com", "b@example.net"], note="both: a reader shows one of them")
addr("two-angles-one-name", "Rose <x@bank.example> <a@example.com>", ["x@bank.example", "a@example.com"])
addr("group", "Friends: a@example.com, b@example.net;", ["a@example.com", "b@example.net"])
addr("group-empty", "Undisclosed recipients:;", [])
addr("group-then-more", "Friends: a@example.com;, b@example.net", ["a@example.com", "b@example.net"])
addr("group-not-closed", "Friends: a@example.com, b@example.net", ["a@example.com", "b@example.net"])
addr("group-names", 'Friends: "A" <a@example.com>, B <b@example.net>;', ["a@example.com", "b@example.net"], ["A", "B"])
addr("quoted-local", '"a b"@example.com', ["a b@example.com"], note="the local part unquoted")
addr("quoted-local-at", '"a@b"@example.com', ["a@b@example.com"])
addr("quoted-local-dots", '"a..b"@example.com', ["a..b@example.com"])
addr("quoted-local-angle", '"x <a@bank.example>"@example.com', ["x <a@bank.example>@example.com"])
addr("local-dots", "a..b@example.com", ["a..b@example.com"])
addr("local-dot-end", "a.@example.com", ["a.@example.com"])
addr("local-utf8", "rösé@example.com", ["rösé@example.com"])
addr("local-plus", "a+tag@example.com", ["a+tag@example.com"])
addr("spaces-around-at", "a @ example.com", ["a@example.com"])
addr("spaces-around-dots", "a @ example . com", ["a@example.com"])
addr("spaces-in-angles", "< a@example.com >", ["a@example.com"])
addr("domain-trailing-dot", "a@example.com.", ["a@example.com"])
addr("domain-upper-case", "a@EXAMPLE.COM", ["a@example.com"])
addr("domain-literal", "a@[192.0.2.1]", ["a@[192.0.2.1]"])
addr("domain-literal-v6", "a@[IPv6:2001:db8::1]", ANY)
addr("domain-idn", "a@bücher.example", ANY)
addr("source-route", "<@one.example,@two.example:a@example.com>", ["a@example.com"])
addr("two-at", "a@b@example.com", ANY)
addr("no-at", "rose", ANY)
addr("no-domain", "a@", ANY)
addr("no-local", "@example.com", ANY)
addr("empty", "", [])
addr("empty-angle", "<>", ANY)
addr("only-name", '"Rose"', ANY)
addr("mailto", "<mailto:a@example.com>", ANY)
addr("double-angle", "<<a@example.com>>", ["a@example.com"])
addr("angle-not-closed", '"A" <a@example.com', ["a@example.com"], ["A"])
addr("angle-not-closed-list", "A <a@example.com, B <b@example.net>", ["a@example.com", "b@example.net"])
addr("angle-not-opened", "a@example.com>", ["a@example.com"])
addr("quote-not-closed", '"A <a@example.com>', ["a@example.com"])
addr("quote-not-closed-list", '"A <a@example.com>, B <b@example.net>', ["a@example.com", "b@example.net"])
addr("comment-not-closed", "a@example.com (oops", ["a@example.com"])
addr("comment-not-closed-first", "(oops a@example.com", ANY)
addr("comment-not-opened", "a@example.com oops)", ANY)
addr("quote-amid", 'Ro"se <a@example.com>', ["a@example.com"])
addr("backslash-end", "a@example.com\\", ANY)
addr("unclosed-hides-next-angle", ["A <a@example.com", "B <b@evil.example>"], ["a@example.com", "b@evil.example"])
addr("unclosed-hides-next-quote", ['"A <a@example.com>', "B <b@evil.example>"], ["a@example.com", "b@evil.example"])
addr("unclosed-hides-next-comment", ["a@example.com (oops", "B <b@evil.example>"], ["a@example.com", "b@evil.example"])
addr("nul", b"a\0b@example.com", ANY)
addr("nul-in-name", b"Ro\0se <a@example.com>", ["a@example.com"], ["Ro se"])
addr("control", b"Ro\x07se <a@example.com>", ["a@example.com"])
addr("tab", b"Rose\t<a@example.com>", ["a@example.com"], ["Rose"])
addr("5000", ", ".join("u%d@example.com" % i for i in range(5000)), ["u%d@example.com" % i for i in range(5000)])
addr("deep-comment", "a@example.com " + "(" * 4000 + "x" + ")" * 4000, ["a@example.com"])
addr("many-open-angles", "<" * 8000 + "a@example.com", ANY)
addr("many-quotes", '"' * 8001 + " <a@example.com>", ANY)
addr("many-colons", ":" * 8000, ANY)
addr("long-local", "a" * 5000 + "@example.com", ["a" * 5000 + "@example.com"])
addr("long-name", "Rose " * 2000 + "<a@example.com>", ["a@example.com"])

# ---- dates ---------------------------------------------------------------------------------------------------------------
def date(name, value, want=ANY, note=""):
    if isinstance(want, tuple):
        want = calendar.timegm(want + (0, 0, 0)[:9 - len(want)])
    add("date-" + name, [b"Date: " + b(value)], {} if want is ANY else {"date": want}, note)


T = (2025, 11, 21, 9, 55, 6)
date("full", "Fri, 21 Nov 2025 09:55:06 +0000", T)
date("offset", "Fri, 21 Nov 2025 03:55:06 -0600", T)
date("offset-half", "Fri, 21 Nov 2025 15:25:06 +0530", T)
date("no-day", "21 Nov 2025 09:55:06 +0000", T)
date("wrong-day", "Mon, 21 Nov 2025 09:55:06 +0000", T)
date("long-day", "Friday, 21 Nov 2025 09:55:06 +0000", T)
date("long-month", "Fri, 21 November 2025 09:55:06 +0000", T)
date("no-comma", "Fri 21 Nov 2025 09:55:06 +0000", T)
date("no-space-behind-comma", "Fri,21 Nov 2025 09:55:06 +0000", T)
date("no-seconds", "Fri, 21 Nov 2025 09:55 +0000", T[:5] + (0,))
date("one-digit-day", "Sat, 1 Nov 2025 09:55:06 +0000", (2025, 11, 1, 9, 55, 6))
date("zero-digit-day", "Sat, 01 Nov 2025 09:55:06 +0000", (2025, 11, 1, 9, 55, 6))
date("one-digit-hour", "Fri, 21 Nov 2025 9:55:06 +0000", T)
date("lower-case", "fri, 21 nov 2025 09:55:06 +0000", T)
date("two-digit-year", "Fri, 21 Nov 25 09:55:06 +0000", T)
date("two-digit-year-old", "Tue, 21 Nov 95 09:55:06 +0000", (1995, 11, 21, 9, 55, 6))
date("three-digit-year", "Fri, 21 Nov 125 09:55:06 +0000", T)
for z, h in (("GMT", 0), ("UT", 0), ("UTC", 0), ("Z", 0), ("EST", 5), ("EDT", 4), ("CST", 6), ("CDT", 5), ("MST", 7), ("MDT", 6), ("PST", 8), ("PDT", 7)):
    date("zone-" + z.lower(), "Fri, 21 Nov 2025 09:55:06 " + z, calendar.timegm(T + (0, 0, 0)) + h * 3600)
for z in ("A", "M", "N", "Y", "X"):
    date("zone-military-" + z.lower(), "Fri, 21 Nov 2025 09:55:06 " + z, T, "RFC 5322 4.3: as -0000")
date("zone-unknown", "Fri, 21 Nov 2025 09:55:06 CEST", T, "RFC 5322 4.3: as -0000")
date("zone-minus-zero", "Fri, 21 Nov 2025 09:55:06 -0000", T)
date("zone-absent", "Fri, 21 Nov 2025 09:55:06", T)
date("zone-comment", "Fri, 21 Nov 2025 10:55:06 +0100 (CET)", T)
date("zone-comment-nested", "Fri, 21 Nov 2025 10:55:06 +0100 (C (E) T)", T)
date("comments-amid", "Fri (day), (x) 21 Nov (month) 2025 (y) 09:55:06 +0000", T)
date("comment-not-closed", "Fri, 21 Nov 2025 10:55:06 +0100 (CET", T)
date("spaces-around-colons", "Fri, 21 Nov 2025 09 : 55 : 06 +0000", T)
date("folded", b"Fri, 21 Nov 2025\r\n 09:55:06 +0000", T)
date("zone-colon", "Fri, 21 Nov 2025 10:55:06 +01:00", ANY)
date("zone-gmt-offset", "Fri, 21 Nov 2025 10:55:06 GMT+0100", ANY)
date("zone-large", "Fri, 21 Nov 2025 09:55:06 +9999", ANY)
date("iso", "2025-11-21T09:55:06Z", ANY)
date("ctime", "Fri Nov 21 09:55:06 2025", ANY)
date("american", "11/21/2025 9:55 AM", ANY)
date("leap-second", "Fri, 21 Nov 2025 09:55:60 +0000", T[:5] + (60,))
date("hour-24", "Fri, 21 Nov 2025 24:00:00 +0000", None)
date("minute-60", "Fri, 21 Nov 2025 09:60:00 +0000", None)
date("day-0", "Fri, 0 Nov 2025 09:55:06 +0000", None)
date("day-31-november", "Fri, 31 Nov 2025 09:55:06 +0000", None)
date("february-29", "Thu, 29 Feb 2024 09:55:06 +0000", (2024, 2, 29, 9, 55, 6))
date("february-29-no", "Sat, 29 Feb 2025 09:55:06 +0000", None)
date("month-unknown", "Fri, 21 Foo 2025 09:55:06 +0000", None)
date("year-1900", "Fri, 21 Nov 1900 09:55:06 +0000", (1900, 11, 21, 9, 55, 6))
date("year-9999", "Fri, 21 Nov 9999 09:55:06 +0000", (9999, 11, 21, 9, 55, 6))
date("year-99999", "Fri, 21 Nov 99999 09:55:06 +0000", ANY)
date("year-long", "Fri, 21 Nov 99999999999999999999 09:55:06 +0000", None)
date("empty", "", None)
date("words", "yesterday", None)
date("only-zone", "+0000", None)
date("8bit", b"Fri, 21 M\xe4r 2025 09:55:06 +0000", ANY)
date("nul", b"Fri, 21 Nov 2025\0 09:55:06 +0000", ANY)
date("text-behind", "Fri, 21 Nov 2025 09:55:06 +0000 and so on", ANY)
date("40-kilooctets", "Fri, 21 Nov 2025 09:55:06 +0000 (" + "x" * 40000 + ")", T)
date("two-fields", b"Fri, 21 Nov 2025 09:55:06 +0000\r\nDate: Sat, 22 Nov 2025 09:55:06 +0000", T, "the first counts")

# ---- Authentication-Results ----------------------------------------------------------------------------------------------
def ar(name, value, want=ANY, note=""):
    value = [value] if not isinstance(value, list) else value
    add("ar-" + name, [b"Authentication-Results: " + b(v) for v in value], {} if want is ANY else {"auth_results": {"mx.example.org": want}}, note)


ar("simple", "mx.example.org; spf=pass smtp.mailfrom=example.com", {"spf": "pass"})
ar("three", "mx.example.org; spf=pass smtp.mailfrom=a@example.com; dkim=fail header.d=example.com; dmarc=none", {"spf": "pass", "dkim": "fail", "dmarc": "none"})
ar("none", "mx.example.org; none", {})
ar("other-id", "mx.example.net; spf=pass", {})
ar("version", "mx.example.org 1; spf=pass", {"spf": "pass"})
ar("comment-first", "(c) mx.example.org; spf=pass", {"spf": "pass"})
ar("comment-behind-id", "mx.example.org (c; dkim=pass) ; spf=pass", {"spf": "pass"})
ar("spaces-around-equals", "mx.example.org; spf = pass", {"spf": "pass"})
ar("folded", b"mx.example.org;\r\n spf=pass\r\n  smtp.mailfrom=x@example.com;\r\n\tdkim=none", {"spf": "pass", "dkim": "none"})
ar("upper-case", "MX.EXAMPLE.ORG; SPF=Pass", {"spf": "pass"})
ar("id-quoted", '"mx.example.org"; spf=pass', {"spf": "pass"})
ar("quoted-semicolon", 'mx.example.org; spf=pass smtp.mailfrom="x; dkim=pass; y"@evil.example', {"spf": "pass"})
ar("comment-semicolon", "mx.example.org; spf=pass (x; dkim=pass)", {"spf": "pass"})
ar("comment-quote", 'mx.example.org; spf=none (domain of "a; dkim=pass (b"@evil.example)', {"spf": "none"}, "a comment that is not closed takes the rest of the field")
ar("comment-in-quote", 'mx.example.org; spf=pass smtp.mailfrom="a (b; dkim=pass"@x.example; dmarc=fail', {"spf": "pass", "dmarc": "fail"})
ar("comment-nested", "mx.example.org; spf=fail (a (b; dkim=pass) c; dmarc=pass); arc=none", {"spf": "fail", "arc": "none"})
ar("quoted-pair", 'mx.example.org; spf=pass smtp.mailfrom="a\\"; dkim=pass; \\""@x.example', {"spf": "pass"})
ar("quote-not-closed", 'mx.example.org; spf=pass smtp.mailfrom="a; dkim=pass', {"spf": "pass"}, "a string that is not closed takes the rest of the field")
ar("comment-not-closed", "mx.example.org; spf=fail (a; dkim=pass", {"spf": "fail"})
ar("method-version", "mx.example.org; dkim/1=pass header.d=example.com", {"dkim": "pass"})
ar("reason", 'mx.example.org; dkim=fail reason="x; spf=pass"', {"dkim": "fail"})
ar("two-dkim", "mx.example.org; dkim=fail header.d=a.example; dkim=pass header.d=b.example", ANY)
ar("two-fields", ["mx.example.org; spf=pass", "mx.example.org; spf=fail"], ANY, "the uppermost of that id counts; which one is written first must be the same always")
ar("no-id", "spf=pass", {})
ar("empty", "", {})
ar("only-id", "mx.example.org", {})
ar("only-semicolons", ";;;;", {})
ar("no-value", "mx.example.org; spf=; dkim", ANY)
ar("8bit", b"mx.example.org; spf=pass smtp.mailfrom=\xe4@example.com", {"spf": "pass"})
ar("nul", b"mx.example.org; spf=pass\0; dkim=pass", ANY)
ar("1000", "mx.example.org" + "; dkim=none" * 1000, {"dkim": "none"})
ar("deep-comment", "mx.example.org " + "(" * 3000 + ")" * 3000 + "; spf=pass", {"spf": "pass"})


# ---- chance: pieces in any order, and octets changed -------------------------------------------------------------------
PIECES = [b"=?utf-8?Q?", b"=?gb2312?B?", b"=?utf-16?b?", b"=?iso-2022-jp?b?GyRC", b"?=", b"=?", b"=?utf-7?Q?+AOk-?=", b"\xff", b"\xc3\xa4", b"\xc2\x85",
          b'"', b"<", b">", b"(", b")", b",", b";", b":", b"=", b"a@example.com", b"@", b".", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\0", b"\x1b", b"=3D",
          b"=00", b"=0D=0A", b"xOO6ww==", b"[EXT] ", b"%s", b"\\", b"\\\"", b"Fri, 21 Nov 2025 09:55:06 +0000", b"mx.example.org; ", b"spf=pass ",
          b"dkim=pass", b"[IPv6:", b"]", b"Friends:", b"\xe2\x80\xae", b"x" * 90]
NAMES = [b"From", b"Subject", b"To", b"Cc", b"Date", b"Reply-To", b"Authentication-Results", b"Message-ID", b"X-Odd", b"Received"]


def chance(seed):
    """One message more, for each number another."""
    dice = random.Random(seed)
    if seed % 2:
        fields = []
        for _ in range(dice.randrange(1, 7)):
            value = b"".join(dice.choice(PIECES) for _ in range(dice.randrange(40)))
            fields.append(dice.choice(NAMES) + dice.choice([b": ", b":", b" : ", b":\r\n "]) + value + b"\r\n")
        return b"".join(fields) + b"\r\nText.\r\n"
    octets = bytearray(dice.choice(SMALL))
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(octets) + 1)
        octets[at:at + dice.randrange(4)] = dice.choice(PIECES)
    return re.sub(rb"\r(?!\n)|(?<!\r)\n", b"", bytes(octets))  # bare ones are the gateway's own matter


SMALL = [octets for octets, _ in SECTIONS.values() if len(octets) < 2000]
