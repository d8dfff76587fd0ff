"""A backend's connection is lost: at each point of a transaction, in each way. What the client hears and what each connection has
heard, octet by octet (scripted.py has the words).

A loss costs what was asked and not answered, never what was accepted: the envelope that was accepted is said anew once, on a connection
of its own. Words that a pooled connection never answered are said again. A message is told 250 only by whoever took it, and an octet of
content is never said twice. Who has authenticated is known on one connection alone: nothing replaces that one."""
import pytest

from gateway import Gateway, free_port
from scripted import Scripted, Script

CONF = 'backend "%(n)s" { "%(backend)s", pool = %(pool)d, health = 0 }\nlisten "%(n)s" { "127.0.0.1:%(port)d", backend = "%(n)s", ' \
       'chain = "%(chain)s", received = false%(more)s }\n'
FILES = {"headers.lua": "function on.headers(s, m) end\n", "message.lua": "function on.message(s, m) end\n",
         "held.lua": 'edits_late()\nfunction on.message(s, m) m.headers:remove("X-None") end\n',
         "sender.lua": 'function on.rcpt(s, m, to) if to.localpart == "2" then m:set_from("srs@x.test") end end\n',
         "copy.lua": 'function on.mail(s, m) m:add_rcpt("copy@y.test") end\n'}
SLOW_CLOCKS = ', timeouts = { mail = "400ms", rcpt = "400ms", data_reply = "400ms", end_reply = "900ms", end_by = "800ms" }'
AUTH = ', auth = "offer", auth_without_tls = true'
PLAIN, CHAINS = "plain", ("plain", "headers", "message", "held", "sender", "copy")


class Row:
    """pooled: a message has gone over connection 1 before, which its script and what it heard leave out (but for the count of words:
    "MAIL2!" is the MAIL of the row)."""

    def __init__(self, name, backend, client, heard, chain=PLAIN, pooled=False, more="", greeting="", log="", nolog=""):
        self.name, self.backend, self.client, self.heard = name, backend, client, heard
        self.chain, self.pooled, self.more, self.greeting, self.log, self.nolog = chain, pooled, more, greeting, log, nolog


WARM, WARM_COPY = "MAIL warm DATA body ", "MAIL warm copy DATA body "
ROWS = [
    # ---- at the dial
    Row("dial, closed before its banner", [], "MAIL:ok 1:down 2:down DATA:nobody", [], greeting="!"),
    Row("dial, a banner of 421", [], "MAIL:ok 1:closing 2:closing DATA:nobody", [], greeting="421 4.3.2 b no"),
    Row("dial, a banner of 554", [], "MAIL:ok 1:unwelcome DATA:nobody", [], greeting="554 5.3.2 b no"),
    Row("dial, in a group", [], "MAIL,1,2,DATA:ok,down,down,nobody", [], greeting="!"),
    # ---- at MAIL, with its RCPT unanswered
    Row("MAIL, fresh", ["1!"], "MAIL:ok 1:lost 2:b2 DATA:go all:t2", ["MAIL 1", "MAIL 2 DATA body"]),
    Row("MAIL, fresh, unanswered", ["MAIL!"], "MAIL:ok 1:lost 2:b2 DATA:go all:t2", ["MAIL", "MAIL 2 DATA body"]),
    Row("MAIL, fresh, unanswered, reset", ["MAIL- 1~"], "MAIL:ok 1:lost 2:b2 DATA:go all:t2", ["MAIL 1", "MAIL 2 DATA body"]),
    Row("MAIL, fresh, unanswered, a second loss", ["MAIL- 1!", "MAIL- 2!"], "MAIL:ok 1:lost 2:lost 3:lost DATA:nobody", ["MAIL 1", "MAIL 2"]),
    Row("MAIL, fresh, 421", ["MAIL?421"], "MAIL:ok 1:closing 2:closing DATA:nobody RSET:done MAIL:ok 3:b2 DATA:go all:t2",
        ["MAIL", "MAIL 3 DATA body"]),
    Row("MAIL, pooled, unanswered", ["MAIL2- 1!"], "MAIL:ok 1:b2 DATA:go all:t2", ["MAIL 1", "MAIL 1 DATA body"], pooled=True),
    Row("MAIL, pooled, unanswered, reset", ["MAIL2- 1~"], "MAIL:ok 1:b2 DATA:go all:t2", ["MAIL 1", "MAIL 1 DATA body"], pooled=True),
    Row("MAIL, pooled, unanswered, a group", ["MAIL2- 1- 2!"], "MAIL,1,2:ok,b2,b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 2 DATA body"], pooled=True),
    Row("MAIL, pooled, answered", ["1!"], "MAIL:ok 1:lost 2:b2 DATA:go all:t2", ["MAIL 1", "MAIL 2 DATA body"], pooled=True),
    Row("MAIL, pooled, unanswered, a second loss", ["MAIL2- 1!", "MAIL- 1!"], "MAIL:ok 1:lost 2:lost DATA:nobody", ["MAIL 1", "MAIL 1"], pooled=True),
    Row("MAIL, pooled, unanswered, late", ["MAIL2- 1-"], "MAIL:ok 1:slow 2:b2 DATA:go all:t2", ["MAIL 1", "MAIL 2 DATA body"], pooled=True,
        more=SLOW_CLOCKS),
    # ---- at RCPT, with others before it
    Row("RCPT, one accepted", ["2!"], "MAIL:ok 1:b1 2:lost 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 3 DATA body"]),
    Row("RCPT, one accepted, no further", ["2!"], "MAIL:ok 1:b1 2:lost DATA:go all:t2", ["MAIL 1 2", "MAIL 1 DATA body"]),
    Row("RCPT, one accepted, reset", ["2~"], "MAIL:ok 1:b1 2:lost 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 3 DATA body"]),
    Row("RCPT, one accepted, pooled", ["2!"], "MAIL:ok 1:b1 2:lost 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 3 DATA body"], pooled=True),
    Row("RCPT, none accepted", ["1=550 2!"], "MAIL:ok 1:550 2:lost 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 3 DATA body"]),
    Row("RCPT, none accepted at all", ["1=550 2!"], "MAIL:ok 1:550 2:lost DATA:nobody", ["MAIL 1 2"]),
    Row("RCPT, in a group", ["2!"], "MAIL,1,2,3:ok,b1,lost,lost 4:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 4 DATA body"]),
    Row("RCPT, between two", [], "MAIL:ok 1:b1 !1 2:b2 DATA:go all:t2", ["MAIL 1", "MAIL 1 2 DATA body"]),
    Row("RCPT, between two, a second loss", [], "MAIL:ok 1:b1 !1 2:b2 ~2 3:lost DATA:lost RSET:done MAIL:ok 4:b3 DATA:go all:t3",
        ["MAIL 1", "MAIL 1 2", "MAIL 4 DATA body"]),
    Row("RCPT, a second loss", ["2!", "3!"], "MAIL:ok 1:b1 2:lost 3:lost 4:lost DATA:lost", ["MAIL 1 2", "MAIL 1 3"]),
    Row("RCPT, a second loss while it is said anew", ["2!", "MAIL- 1!"], "MAIL:ok 1:b1 2:lost 3:lost DATA:lost", ["MAIL 1 2", "MAIL 1"]),
    Row("RCPT, said anew and refused", ["2!", "1=550"], "MAIL:ok 1:b1 2:lost DATA:changed", ["MAIL 1 2", "MAIL 1"]),
    Row("RCPT, said anew and refused, with another", ["2!", "1=450"], "MAIL:ok 1:b1 2:lost 3:b2 DATA:changed", ["MAIL 1 2", "MAIL 1 3"]),
    Row("RCPT, late", ["2-"], "MAIL:ok 1:b1 2:slow 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 3 DATA body"], more=SLOW_CLOCKS),
    Row("RCPT, 421", ["2?421"], "MAIL:ok 1:b1 2:closing 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 3 DATA body"]),
    # ---- at DATA that was asked alone
    Row("DATA, asked", ["DATA!"], "MAIL:ok 1:b1 DATA:lost DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("DATA, asked, reset", ["DATA~"], "MAIL:ok 1:b1 DATA:lost DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("DATA, asked, pooled", ["DATA2!"], "MAIL:ok 1:b1 DATA:lost DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], pooled=True),
    Row("DATA, asked, a second loss", ["DATA!", "DATA!"], "MAIL:ok 1:b1 DATA:lost DATA:lost DATA:lost", ["MAIL 1 DATA", "MAIL 1 DATA"]),
    Row("DATA, asked, late", ["DATA-"], "MAIL:ok 1:b1 DATA:slow DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], more=SLOW_CLOCKS),
    Row("DATA, asked, 421", ["DATA?421"], "MAIL:ok 1:b1 DATA:closing DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("DATA, before it", [], "MAIL:ok 1:b1 ~1 DATA:go all:t2", ["MAIL 1", "MAIL 1 DATA body"]),
    Row("DATA, asked behind the headers", ["DATA!"], "MAIL:ok 1:b1 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], chain="headers"),
    Row("DATA, asked behind the headers, a second loss", ["DATA!", "DATA!"], "MAIL:ok 1:b1 DATA:go all:lost", ["MAIL 1 DATA", "MAIL 1 DATA"],
        chain="headers", nolog="uncertain=1"),
    Row("DATA, asked at the verdict", ["DATA~"], "MAIL:ok 1:b1 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], chain="message"),
    Row("DATA, asked, held", ["DATA!"], "MAIL:ok 1:b1 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], chain="held"),
    Row("DATA, asked, held, refused anew", ["DATA!", "1=550"], "MAIL:ok 1:b1 DATA:go all:changed", ["MAIL 1 DATA", "MAIL 1"], chain="held"),
    Row("DATA, while it is held", [], "MAIL:ok 1:b1 DATA:go body !1 end:t2", ["MAIL 1", "MAIL 1 DATA body"], chain="held"),
    # ---- at DATA that had joined its group
    Row("joined, nothing answered", ["MAIL- 1- DATA!"], "MAIL,1,DATA:ok,lost,nobody 2:b2 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 2 DATA body"]),
    Row("joined, pooled, nothing answered", ["MAIL2- 1- DATA2!"], "MAIL,1,DATA:ok,b2,go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], pooled=True),
    Row("joined, pooled, nothing answered, a second loss", ["MAIL2- 1- DATA2!", "MAIL- 1- DATA!"], "MAIL,1,DATA:ok,lost,nobody", ["MAIL 1 DATA"] * 2,
        pooled=True),
    Row("joined, one accepted", ["2- DATA!"], "MAIL,1,2,DATA:ok,b1,lost,lost DATA:go all:t2", ["MAIL 1 2 DATA", "MAIL 1 DATA body"]),
    Row("joined, all accepted", ["DATA!"], "MAIL,1,2,DATA:ok,b1,b1,lost DATA:go all:t2", ["MAIL 1 2 DATA", "MAIL 1 2 DATA body"]),
    Row("joined, all accepted, reset", ["DATA~"], "MAIL,1,2,DATA:ok,b1,b1,lost DATA:go all:t2", ["MAIL 1 2 DATA", "MAIL 1 2 DATA body"]),
    Row("joined, all accepted, a second loss", ["DATA!", "1!"], "MAIL,1,2,DATA:ok,b1,b1,lost DATA:lost DATA:lost", ["MAIL 1 2 DATA", "MAIL 1"]),
    Row("joined, none accepted", ["1=550 DATA!"], "MAIL,1,DATA:ok,550,nobody 2:b2 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 2 DATA body"]),
    # ---- 354 is there, and the end of its connection with it: it is never told, or content would be read as commands
    Row("354 and 421, asked alone", ["DATA+421"], "MAIL:ok 1:b1 DATA:closing DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("354 and 421, pooled", ["DATA2+421"], "MAIL:ok 1:b1 DATA:closing DATA:go all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], pooled=True),
    Row("354 and 421, joined", ["DATA+421"], "MAIL,1,2,DATA:ok,b1,b1,closing DATA:go all:t2", ["MAIL 1 2 DATA", "MAIL 1 2 DATA body"]),
    Row("354 and 421, joined, none accepted", ["1=550 DATA+421"], "MAIL,1,DATA:ok,550,nobody 2:b2 DATA:go all:t2", ["MAIL 1 DATA", "MAIL 2 DATA body"]),
    Row("354 and 421, a second loss", ["DATA+421"] * 2, "MAIL:ok 1:b1 DATA:closing DATA:closing DATA:closing", ["MAIL 1 DATA", "MAIL 1 DATA"]),
    Row("354 and 421, bound by AUTH", ["DATA+421"], "AUTH:auth MAIL:ok 1:b1 DATA:closing DATA:closing RSET:done MAIL:loginlost",
        ["AUTH MAIL 1 DATA"], more=AUTH),
    Row("354 and 421, behind the headers", ["DATA+421"], "MAIL:ok 1:b1 DATA:go all:closing", ["MAIL 1 DATA"], chain="headers", nolog="uncertain=1"),
    # ---- 354 was told, and no octet of content has been said
    Row("open", [], "MAIL:ok 1:b1 DATA:go !1 all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("open, reset", [], "MAIL:ok 1:b1 DATA:go ~1 all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"]),
    Row("open, pooled", [], "MAIL:ok 1:b1 DATA:go !1 all:t2", ["MAIL 1 DATA", "MAIL 1 DATA body"], pooled=True),
    Row("open, two accepted and one refused", ["2=550"], "MAIL:ok 1:b1 2:550 3:b1 DATA:go ~1 all:t2", ["MAIL 1 2 3 DATA", "MAIL 1 3 DATA body"]),
    Row("open, said anew and refused", ["", "1=550"], "MAIL:ok 1:b1 DATA:go !1 all:changed", ["MAIL 1 DATA", "MAIL 1"]),
    Row("open, a second loss", ["", "DATA!"], "MAIL:ok 1:b1 DATA:go !1 all:lost", ["MAIL 1 DATA", "MAIL 1 DATA"], nolog="uncertain=1"),
    Row("open, said anew before", [], "MAIL:ok 1:b1 !1 2:b2 DATA:go !2 all:lost", ["MAIL 1", "MAIL 1 2 DATA"], nolog="uncertain=1"),
    # ---- amid content
    Row("content", [], "MAIL:ok 1:b1 DATA:go half !1 end:lost MAIL:ok 2:b2 DATA:go all:t2", ["MAIL 1 DATA half", "MAIL 2 DATA body"],
        nolog="uncertain=1"),
    Row("content, reset", [], "MAIL:ok 1:b1 DATA:go half ~1 end:lost", ["MAIL 1 DATA half"], nolog="uncertain=1"),
    Row("content, pooled", [], "MAIL:ok 1:b1 DATA:go half !1 end:lost", ["MAIL 1 DATA half"], pooled=True, nolog="uncertain=1"),
    Row("content, behind the headers", [], "MAIL:ok 1:b1 DATA:go half !1 end:lost", ["MAIL 1 DATA half"], chain="headers", nolog="uncertain=1"),
    # ---- our end was said
    Row("ended", ["END!"], "MAIL:ok 1:b1 DATA:go all:lost MAIL:ok 2:b2 DATA:go all:t2", ["MAIL 1 DATA body", "MAIL 2 DATA body"], log="uncertain=1"),
    Row("ended, reset", ["END~"], "MAIL:ok 1:b1 DATA:go all:lost", ["MAIL 1 DATA body"], log="uncertain=1"),
    Row("ended, pooled", ["END2!"], "MAIL:ok 1:b1 DATA:go all:lost", ["MAIL 1 DATA body"], pooled=True, log="uncertain=1"),
    Row("ended, held", ["END!"], "MAIL:ok 1:b1 DATA:go all:lost", ["MAIL 1 DATA body"], chain="held", log="uncertain=1"),
    Row("ended, late", ["END-"], "MAIL:ok 1:b1 DATA:go all:lost", ["MAIL 1 DATA body"], more=SLOW_CLOCKS, log="uncertain=1"),
    # ---- a filter has changed the sender: what was accepted is said anew
    Row("said anew, at its MAIL", ["", "MAIL!"], "MAIL:ok 1:b1 2:lost DATA:lost", ["MAIL 1", "MAIL/srs"], chain="sender"),
    Row("said anew, at its RCPT", ["", "1!"], "MAIL:ok 1:b1 2:lost 3:lost DATA:lost", ["MAIL 1", "MAIL/srs 1"], chain="sender"),
    Row("said anew, behind it", ["", "2!"], "MAIL:ok 1:b1 2:lost 3:b3 DATA:go all:t3", ["MAIL 1", "MAIL/srs 1 2", "MAIL/srs 1 3 DATA body"],
        chain="sender"),
    Row("said anew, at DATA", ["", "DATA!"], "MAIL:ok 1:b1 2:b2 DATA:lost DATA:go all:t3", ["MAIL 1", "MAIL/srs 1 2 DATA", "MAIL/srs 1 2 DATA body"],
        chain="sender"),
    Row("said anew, pooled, unanswered", ["", "MAIL- 1- 2!"], "MAIL:ok 1:b1 2:lost DATA:lost", ["MAIL 1 RSET", "MAIL/srs 1 2"],
        chain="sender", pooled=True),
    # ---- a filter has added one: it is asked before DATA, and again of whoever is asked next
    Row("added, at RCPT", ["2!"], "MAIL:ok 1:b1 2:lost 3:b2 DATA:go all:t2", ["MAIL 1 2", "MAIL 1 copy 3 DATA body"], chain="copy"),
    Row("added, while it is asked", ["copy!"], "MAIL:ok 1:b1 DATA:lost DATA:lost", ["MAIL 1 copy"], chain="copy"),
    Row("added, at DATA", ["DATA!"], "MAIL:ok 1:b1 DATA:lost DATA:go all:t2", ["MAIL 1 copy DATA", "MAIL 1 copy DATA body"], chain="copy"),
    Row("added, open", [], "MAIL:ok 1:b1 DATA:go ~1 all:t2", ["MAIL 1 copy DATA", "MAIL 1 copy DATA body"], chain="copy"),
    Row("added, open, refused anew", ["", "copy=550"], "MAIL:ok 1:b1 DATA:go !1 all:changed", ["MAIL 1 copy DATA", "MAIL 1 copy"], chain="copy"),
    Row("added, pooled, nothing answered", ["MAIL2- 1!"], "MAIL:ok 1:b2 DATA:go all:t2", ["MAIL 1", "MAIL 1 copy DATA body"],
        chain="copy", pooled=True),
    # ---- bound by AUTH: nobody else knows who it is
    Row("AUTH, at MAIL", ["MAIL- 1!"], "AUTH:auth MAIL:ok 1:lost 2:lost DATA:nobody RSET:done MAIL:loginlost", ["AUTH MAIL 1"], more=AUTH),
    Row("AUTH, at RCPT", ["2!"], "AUTH:auth MAIL:ok 1:b1 2:lost 3:lost DATA:lost RSET:done MAIL:loginlost", ["AUTH MAIL 1 2"], more=AUTH),
    Row("AUTH, at DATA", ["DATA!"], "AUTH:auth MAIL:ok 1:b1 DATA:lost DATA:lost RSET:done MAIL:loginlost", ["AUTH MAIL 1 DATA"], more=AUTH),
    Row("AUTH, joined", ["DATA~"], "AUTH:auth MAIL,1,DATA:ok,b1,lost RSET:done MAIL:loginlost", ["AUTH MAIL 1 DATA"], more=AUTH),
    Row("AUTH, open", [], "AUTH:auth MAIL:ok 1:b1 DATA:go !1 all:lost MAIL:loginlost", ["AUTH MAIL 1 DATA"], more=AUTH, nolog="uncertain=1"),
    Row("AUTH, content", [], "AUTH:auth MAIL:ok 1:b1 DATA:go half ~1 end:lost MAIL:loginlost", ["AUTH MAIL 1 DATA half"], more=AUTH),
    Row("AUTH, ended", ["END!"], "AUTH:auth MAIL:ok 1:b1 DATA:go all:lost MAIL:loginlost", ["AUTH MAIL 1 DATA body"], more=AUTH, log="uncertain=1"),
    Row("AUTH, a message later", ["MAIL2- 2!"], "AUTH:auth MAIL:ok 1:b1 DATA:go all:t1 MAIL:ok 2:lost RSET:done MAIL:loginlost",
        ["AUTH MAIL 1 DATA body MAIL 2"], more=AUTH),
]


@pytest.fixture(scope="module")
def gateway():
    """One for all rows; each has a listener and a backend of its own, so that no pool or memory of a failure is shared."""
    conf = 'hostname "mx.test"\nworkers(1)\n'
    conf += "".join('chain "%s" { %s }\n' % (c, "" if c == PLAIN else 'filter "%s.lua" { }' % c) for c in CHAINS)
    for i, row in enumerate(ROWS):
        row.server, row.port = Scripted(), free_port()
        conf += CONF % {"n": "r%d" % i, "backend": row.server.address, "pool": 4 if row.pooled else 0, "port": row.port,
                        "chain": row.chain, "more": row.more}
    g = Gateway(conf, files=FILES).start()
    yield g
    for row in ROWS:
        row.server.close()
    wrong = g.stop()
    assert not wrong, wrong


@pytest.mark.parametrize("row", ROWS, ids=[r.name for r in ROWS])
def test_loss(gateway, row):
    row.server.begin(*row.backend)
    script = Script(row.port, row.server)
    if row.pooled:
        script.play("MAIL:ok warm:b1 DATA:go all:t1")
    row.server.greeting = row.greeting
    script.play(row.client)
    if "loginlost" not in row.client:
        script.leave()
    warm = WARM_COPY if row.chain == "copy" else WARM
    row.server.expect(*[(warm if row.pooled and i == 0 else "") + heard for i, heard in enumerate(row.heard)])
    told = [r for r in script.told if r.startswith("250") and r.endswith(" taken")]
    assert len(told) <= sum(c.heard.count(b"\r\n.\r\n") for c in row.server.used)
    if row.log:
        assert row.log in msg_lines(gateway, row)
    if row.nolog:
        assert row.nolog not in msg_lines(gateway, row)


def msg_lines(gateway, row):
    log = gateway.log()
    lines = [l for l in log.splitlines() if " event=msg " in l and " listen=r%d " % ROWS.index(row) in l]
    assert lines, log[-3000:]
    return "\n".join(lines)
