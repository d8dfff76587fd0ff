"""`milter "NAME"` as a scripted MTA sees it: negotiation, faults of the protocol, A, Q and K at every point, limits, clocks, reload and drain."""
import os
import re
import socket
import struct
import subprocess
import time

import pytest

from gateway import SLOW, SLUICE, Gateway, free_port, without_root
from mta import Closed, Mta, connect, edits, macros, packet

LISTEN = 'workers(1)\nmilter "mta" { "127.0.0.1:%d", chain = "in" %s }\nchain "in" { %s }\n'
PLAIN = b"Subject: s\r\nA: 1\r\nA: 2\r\n\r\nbody\r\n"


def until(claim, seconds=20):
    deadline = time.monotonic() + seconds * SLOW
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class House:
    def __init__(self, script="", options="", filters=None, more=""):
        self.port = free_port()
        filters = filters if filters is not None else 'filter "f.lua" { }' if script else ""
        self.gateway = Gateway(LISTEN % (self.port, options, filters) + more, {"filters/f.lua": script}).start()

    def mta(self, **offer):
        return Mta(("127.0.0.1", self.port), offer, 30 * SLOW).negotiate()

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        wrong = self.gateway.stop()
        assert failed[0] or not wrong, wrong

    def lines(self, event):
        return [l for l in self.gateway.log().splitlines() if "event=%s " % event in l]


# ---- negotiation

ACTIONS = dict(ADDHDRS=1, CHGBODY=2, ADDRCPT=4, DELRCPT=8, CHGHDRS=0x10, QUARANTINE=0x20, CHGFROM=0x40, ADDRCPT_PAR=0x80, SETSYMLIST=0x100)
STEPS = dict(NOCONNECT=1, NOHELO=2, NOMAIL=4, NORCPT=8, NOBODY=0x10, NOHDRS=0x20, NOEOH=0x40, NR_HDR=0x80, NOUNKNOWN=0x100, NODATA=0x200, SKIP=0x400, RCPT_REJ=0x800,
             NR_CONN=0x1000, NR_HELO=0x2000, NR_MAIL=0x4000, NR_RCPT=0x8000, NR_DATA=0x10000, NR_UNKN=0x20000, NR_EOH=0x40000, NR_BODY=0x80000, LEADSPC=0x100000)
ALWAYS = {"NR_HDR", "NOUNKNOWN", "SKIP", "LEADSPC"}
FIELDS, ENVELOPE = {"ADDHDRS", "CHGHDRS"}, {"ADDRCPT", "ADDRCPT_PAR", "DELRCPT", "CHGFROM"}
QUIET = {"NR_CONN", "NR_HELO", "NR_MAIL", "NR_RCPT", "NR_EOH", "NR_BODY"}


@pytest.mark.parametrize("script,filters,actions,steps", [
    ("", "", set(), QUIET | {"NODATA", "NOHDRS", "NOEOH", "NOBODY"}),
    ("function on.connect(s) end", None, set(), QUIET - {"NR_CONN"} | {"NODATA", "NOHDRS", "NOEOH", "NOBODY"}),
    ("function on.tls(s) end", None, set(), QUIET - {"NR_HELO"} | {"NODATA", "NOHDRS", "NOEOH", "NOBODY"}),
    ("function on.rcpt(s, m, to) end", None, FIELDS | ENVELOPE, QUIET - {"NR_RCPT"} | {"NODATA", "NOHDRS", "NOEOH", "NOBODY"}),
    ("function on.data(s, m) end", None, FIELDS | ENVELOPE, QUIET | {"NOHDRS", "NOEOH", "NOBODY"}),
    ("function on.headers(s, m) end", None, FIELDS | {"QUARANTINE"}, QUIET - {"NR_EOH"} | {"NODATA", "NOBODY"}),
    ("function on.message(s, m) end", None, FIELDS | {"QUARANTINE"}, QUIET | {"NODATA"}),
    ("edits_body() function on.body(s, m, c) end", None, FIELDS | {"QUARANTINE", "CHGBODY"}, QUIET - {"NR_BODY"} | {"NODATA"}),
    ("edits_late() function on.message(s, m) end", None, FIELDS | ENVELOPE | {"QUARANTINE", "CHGBODY"}, QUIET | {"NODATA"}),
    ("function on.data(s, m) end function on.body(s, m, c) end", 'filter "f.lua" { observe = true }', set(), QUIET | {"NR_DATA"}),
])
def test_no_more_is_asked_for_than_the_chain_needs(script, filters, actions, steps):
    with House(script, filters=filters) as h:
        m = h.mta()
        assert {n for n, b in ACTIONS.items() if m.actions & b} == actions | {"SETSYMLIST"}
        assert {n for n, b in STEPS.items() if m.protocol & b} == steps | ALWAYS
        assert sorted(m.lists) == list(range(7)) and m.version == 6
        got = m.begin().message(PLAIN)
        assert got == [("c", b"")]


@pytest.mark.parametrize("version", [2, 3, 4, 6, 9])
def test_the_lesser_version_is_spoken(version):
    steps = {2: 0x7F, 3: 0x17F, 4: 0x3FF}.get(version, 0x1FFFFF)
    with House("function on.rcpt(s, m, to) end function on.headers(s, m) m.headers:add('N', 'v', 'bottom') end") as h:
        m = h.mta(version=version, protocol=steps, actions=0x3F if version < 6 else 0x1FF) if version > 5 else None
        if m is None:  # what old MTAs cannot do is missed: CHGFROM
            with pytest.raises((Closed, ConnectionError)):
                h.mta(version=version, protocol=steps, actions=0x3F)
            m = h.mta(version=version, protocol=steps, actions=0x7F)
        assert m.version == min(version, 6) and m.protocol & ~steps == 0
        got = m.begin().message(PLAIN)
        assert edits(got) == ["i 1073741823 N:%sv" % (" " if version > 5 else "")] and got[-1][0] == "c"


@pytest.mark.parametrize("offer", [dict(version=1), dict(actions=0x1EF), dict(actions=0)])
def test_who_offers_too_little_is_left_with_a_word(offer):
    with House("function on.headers(s, m) end") as h:
        with pytest.raises((Closed, ConnectionError)):
            h.mta(**offer)
        assert re.search("CHGHDRS|version 1 of", h.gateway.log())


def test_without_leadspc_a_blank_is_the_mtas():
    with House("function on.headers(s, m) m.headers:add('N', 'v', 'bottom') m.headers:replace('A', 2, '') end") as h:
        got = h.mta(protocol=0xFFFFF).begin().message(PLAIN)
        assert edits(got) == ["m 2 A: ", "i 1073741823 N:v"]


# ---- facts

def test_what_filters_know_of_the_client():
    script = """
    function on.tls(s) log.info("tls " .. s.tls.version .. " " .. s.tls.cipher .. " " .. tostring(s.tls.bits) .. " " .. tostring(s.tls.verified)) end
    function on.helo(s, name) log.info("helo " .. name) end
    function on.auth(s, user, method) log.info("auth " .. user .. " " .. method) end
    function on.mail(s, m, from) log.info(("%s %s %s %s %s %s %s %s %s"):format(s.ip, s.port, s.rdns, s.helo, s.local_ip, s.local_port, s.hostname, s.listener, m.params.size)) end
    """
    with House(script) as h:
        m = h.mta()
        for ip, told in (("192.0.2.7", "192.0.2.7"), ("2001:DB8::1", "2001:db8::1"), ("IPv6:2001:db8::2", "2001:db8::2"), ("::ffff:192.0.2.9", "192.0.2.9")):
            m = h.mta()
            m.event("C", connect(ip=ip), macros("C", j="mta.example.net", daemon_addr="192.0.2.25", daemon_port="25", client_ptr="mail.example.com", client_resolve="OK"))
            m.event("H", packet("H", "x.example"), macros("H", tls_version="TLSv1.3", cipher="AES", cipher_bits="256", cert_subject="cn"))
            for _ in range(2):  # told once
                assert m.event("M", packet("M", "<a@example.org>", "SIZE=12"), macros("M", auth_type="PLAIN", auth_authen="bob", tls_version="TLSv1.3", cipher="AES",
                                                                                       cipher_bits="256", cert_subject="cn")) == ("c", b"")
                m.say(packet("A"))
            m.say(packet("Q"))
            assert m.is_closed()
            said = [re.search(r"filter=f msg=(.*)", l).group(1).strip('"') for l in h.lines("script")][-5:]
            assert said == ["tls TLSv1.3 AES 256 true", "helo x.example", "auth bob PLAIN", told + " 4321 mail.example.com x.example 192.0.2.25 25 mta.example.net mta 12",
                            told + " 4321 mail.example.com x.example 192.0.2.25 25 mta.example.net mta 12"]


def test_a_name_that_is_not_verified_is_none():
    with House("function on.connect(s) log.info('name ' .. tostring(s.rdns)) end") as h:
        for host, values in (("[192.0.2.7]", {"_": "x.example [192.0.2.7] (may be forged)"}), ("unknown", {}), ("x.example", {"client_resolve": "TEMP"}),
                             ("x.example", {"client_resolve": "FORGED", "client_ptr": "x.example"})):
            h.mta().event("C", connect(host), macros("C", **values))
        assert [re.search(r"name (\w+)", l).group(1) for l in h.lines("script")] == ["nil"] * 4


# ---- order, edits, verdicts

EDITS = """
edits_body() edits_late()
function on.mail(s, m, from)
  if from.localpart == "early" then m.headers:add("E", "early", "top") end
end
function on.headers(s, m)
  local h = m.headers
  h:remove("A", 3) h:replace("A", 2, "n") h:remove("A", 1)
  h:add("T", "1", "top") h:add("B", "2", "bottom")
end
function on.body(s, m, c) if m.from.localpart == "body" then c:replace((c:text():upper())) end end
function on.message(s, m)
  m:set_from("new@example.org") m:remove_rcpt(m.rcpts[1]) m:add_rcpt("c@example.net")
  if m.from.localpart == "x" then return end
  return quarantine("why\\nso")
end
"""


def test_edits_come_in_the_one_order_that_all_mtas_understand():
    with House(EDITS) as h:
        m = h.mta().begin()
        got = m.message(b"A: 1\r\na: 2\r\nA: 3\r\n\r\nbody\r\n", "<body@example.org>", ["<B@Example.Net>", "<k@example.net>"])
        assert edits(got) == ["m 3 A:", "m 2 a: n", "m 1 A:", "i 1 T: 1", "i 1073741823 B: 2", "b BODY\r\n", "- <B@Example.Net>", "+ <c@example.net>",
                              "e <new@example.org>", "q why?so"]
        assert got[-1] == ("c", b"")


def test_fields_of_early_hooks_stand_where_they_are_put_though_no_field_was_shown():
    """The chain has no hook of content, so the MTA sends none: its own fields stand between these."""
    with House("function on.mail(s, m, f) m.headers:add('A', '1', 'bottom') m.headers:add('B', '2', 'top') m.headers:add('C', '3', 'bottom') m.headers:add('D', '4', 'top') end") as h:
        m = h.mta().begin()
        assert not m.sends("L") and not m.sends("N")
        assert edits(m.message(PLAIN)) == ["i 1 D: 4", "i 2 B: 2", "i 1073741823 A: 1", "i 1073741823 C: 3"]


def test_edits_that_cancel_each_other_are_none():
    with House("function on.headers(s, m) local h = m.headers h:add('N', 'x', 'bottom') h:remove('N') h:set('Subject', 'other') h:set('Subject', 's') end") as h:
        assert edits(h.mta().begin().message(PLAIN)) == []


def test_a_body_of_many_packets_comes_back_in_one_run():
    body = b"".join(b"%069d\r\n" % n for n in range(5000))
    with House("edits_body() function on.body(s, m, c) c:replace((c:text():gsub('0', 'x'))) end") as h:
        m = h.mta().begin()
        for size in (65535, 10000, 70001):
            got = m.message(b"A: 1\r\n\r\n" + body, size=size)
            assert [k for k, _ in got[:-1]] == ["b"] * (len(got) - 1) and got[-1][0] == "c"
            assert b"".join(d for _, d in got[:-1]) == body.replace(b"0", b"x") and max(len(d) for _, d in got) <= 65535


def test_a_field_that_no_packet_holds_defers_the_message():
    with House("function on.headers(s, m) m.headers:append('Subject', ('x'):rep(70000)) end") as h:
        got = h.mta().begin().message(PLAIN)
        assert got == [("y", b"451 4.3.0 Internal error, try again later\0")]
        assert "cannot be said to the MTA" in h.gateway.log()


def test_pass_lets_the_rest_through_unseen():
    with House("function on.headers(s, m) if m.from.localpart == 'edits' then m.headers:add('N', 'v') end return pass('known') end") as h:
        m = h.mta().begin()
        assert m.message(PLAIN) == [("a", b"")]
        got = m.message(PLAIN, "<edits@example.org>")
        assert edits(got) == ["i 1073741823 N: v"] and got[-1][0] == "c"


def test_a_body_that_nobody_wants_any_more_is_skipped():
    with House("function on.headers(s, m) return skip('enough') end function on.body(s, m, c) return reject('never') end function on.message(s, m) return reject('never') end") as h:
        m = h.mta().begin()
        m.event("M", packet("M", "<a@example.org>"))
        m.event("R", packet("R", "<b@example.net>"))
        m.say(packet("L", "A", " 1"), packet("N"))
        assert m.hear()[0] == "c"
        m.say(packet("B", data=b"x\r\n"))
        assert m.hear()[0] == "s"
        m.say(packet("E"))
        assert m.final() == [("c", b"")]


def test_a_body_that_nobody_answers_comes_through_however_small_its_pieces():
    """A read of 33,000 octets pins a block of 64 KiB: a packet of that size must fit all the same."""
    with House("edits_late() function on.message(s, m) m.headers:add('N', 'v', 'bottom') end") as h:
        m = h.mta().begin()
        assert not m.awaits("B")
        m.event("M", packet("M", "<a@example.org>"))
        m.event("R", packet("R", "<b@example.net>"))
        content = packet("L", "A", " 1") + packet("N") + packet("B", data=b"x" * 65534 + b"\r") * 16 + packet("E")
        for at in range(0, len(content), 33000):
            m.say(content[at:at + 33000])
            time.sleep(0.01)
        assert edits(m.final()) == ["i 1073741823 N: v"]


def test_behind_a_refused_data_the_message_goes_on():
    """So does Postfix: the client may name more recipients, and say DATA again."""
    script = "function on.rcpt(s, m, to) end function on.data(s, m) if #m.rcpts < 2 then return defer('451 4.7.1 two are needed') end end function on.message(s, m) end"
    with House(script) as h:
        m = h.mta().begin()
        m.event("M", packet("M", "<a@example.org>"))
        assert m.event("R", packet("R", "<b@example.net>")) == ("c", b"")
        for _ in range(2):
            assert m.event("T", packet("T")) == ("y", b"451 4.7.1 two are needed\0")
        assert m.event("R", packet("R", "<c@example.net>")) == ("c", b"")
        assert m.content(PLAIN) == [("c", b"")]
        m.event("M", packet("M", "<again@example.org>"))
        m.event("R", packet("R", "<b@example.net>"))
        assert m.event("T", packet("T"))[0] == "y"
        m.say(packet("A"))
        assert m.message(PLAIN, recipients=("<b@example.net>", "<c@example.net>")) == [("c", b"")]
        told = [l for l in h.lines("msg")]
        assert len(told) == 3 and "verdict=forwarded" in told[0] and "from=<again@example.org>" in told[1] and "code=451" in told[1], told


def test_a_limit_that_is_told_at_data_does_not_end_the_message_either():
    """Recipients are not awaited, so one too many is told at DATA; an MTA that names another, or says DATA again, is in its right."""
    with House("function on.data(s, m) end", ', limits { recipients = 1 }') as h:
        m = h.mta().begin()
        m.say(packet("M", "<a@example.org>"), packet("R", "<b@example.net>"), packet("R", "<c@example.net>"))
        assert not m.awaits("M") and not m.awaits("R")
        for again in (b"", b"", packet("R", "<d@example.net>")):
            m.say(again, packet("T"))
            kind, data = m.hear()
            assert kind == "y" and data.startswith(b"452 4.5.3 ")
        m.say(packet("A"))
        assert m.message(PLAIN) == [("c", b"")]
        until(lambda: len(h.lines("msg")) == 2)
        assert "code=452" in h.lines("msg")[0] and "verdict=forwarded" in h.lines("msg")[1]


def test_content_for_nobody_is_discarded_before_filters_see_it():
    script = "edits_late() function on.rcpt(s, m, to) return discard('so') end function on.message(s, m) m:add_rcpt('late@example.net') end"
    with House(script) as h:
        assert h.mta().begin().message(PLAIN) == [("d", b"")]


@pytest.mark.parametrize("body,said", [(b"", []), (b"x", ["b "])])
def test_nothing_instead_of_no_body_is_no_edit(body, said):
    with House("edits_body() function on.body(s, m, c) c:drop() end") as h:
        assert edits(h.mta().begin().message(b"A: 1\r\n\r\n" + body)) == said


def test_a_refusal_at_connect_is_told_again_to_its_mail():
    with House("function on.connect(s) return defer('450 4.7.1 not now') end function on.mail(s, m, f) end") as h:
        m = h.mta().begin()
        assert m.connected == ("y", b"450 4.7.1 not now\0")
        assert m.event("M", packet("M", "<a@example.org>")) == ("y", b"450 4.7.1 not now\0")


def test_filters_that_only_watch_change_nothing():
    with House("edits_late() function on.rcpt(s, m, to) return reject('no') end function on.message(s, m) m:set_from('') m:set_body('x') return reject('no') end",
               filters='filter "f.lua" { observe = true }') as h:
        assert h.mta().begin().message(PLAIN) == [("c", b"")]
        assert len(h.lines("observe")) == 2


@pytest.mark.parametrize("on_error,answer", [("defer", "y"), ("reject", "y"), ("continue", "c")])
def test_a_filter_that_fails(on_error, answer):
    with House("function on.headers(s, m) error('oops') end", filters='filter "f.lua" { on_error = "%s" }' % on_error) as h:
        assert h.mta().begin().message(PLAIN)[-1][0] == answer


@pytest.mark.parametrize("hook", ["mail(s, m, from)", "rcpt(s, m, to)", "data(s, m)"])
def test_a_route_is_refused_in_words(hook):
    """At rcpt it is no "false": a script that defers such recipients would do so for ever."""
    with House("function on.%s m:route('b') end" % hook, more='backend "b" { "127.0.0.1:1" }') as h:
        assert h.mta().begin().message(PLAIN)[-1][0] == "y"
        assert "m:route: a milter cannot route" in h.gateway.log()


def test_a_script_can_tell_that_there_are_no_routes():
    with House("function on.rcpt(s, m, to) local ok, why = pcall(m.route, m, 'b') log.info(tostring(ok) .. ' ' .. why) end",
               more='backend "b" { "127.0.0.1:1" }') as h:
        assert h.mta().begin().message(PLAIN) == [("c", b"")]
        assert re.search("false .*a milter cannot route", h.lines("script")[0])


def test_paths_that_are_none_are_the_mtas_affair():
    with House("function on.rcpt(s, m, to) log.info('to (' .. tostring(to) .. ')') end") as h:
        m = h.mta().begin()
        got = m.message(PLAIN, "<a b@@example.org>", ["<x y@@>", "not bracketed", "<b@example.net>"])
        assert got[-1][0] == "c" and [k for k, _ in m.told] == ["c"] * 3


# ---- faults

FAULTS = {
    "a length of nothing": [b"\0\0\0\0"], "far too long": [b"\xff\xff\xff\xffM"], "an unknown kind": [packet("Z")], "no NUL": [packet("H", data=b"x")],
    "a macro without a value": [packet("D", data=b"Mi\0")], "data behind T": [packet("T", data=b"x")], "a bad name": [packet("L", "a:b", "c")],
    "C twice": [connect()], "R before M": [packet("R", "<b@example.net>")], "E before M": [packet("E")], "N before M": [packet("N")], "O again": [packet("O", data=b"\0" * 12)],
    "L after B": [packet("M", "<a@example.org>"), packet("R", "<b@example.net>"), packet("N"), packet("B", data=b"x"), packet("L", "A", "1")],
    "R after N": [packet("M", "<a@example.org>"), packet("R", "<b@example.net>"), packet("N"), packet("R", "<b@example.net>")],
}


def test_faults_close_the_connection_and_no_other():
    with House("function on.headers(s, m) end") as h:
        other = h.mta().begin()
        for name, packets in FAULTS.items():
            m = h.mta().begin()
            m.say(*packets)
            assert m.is_closed() or m.is_closed() or m.is_closed(), name
        for first in ("M", "K"):  # before anything was agreed upon
            with pytest.raises((Closed, ConnectionError)):
                m = Mta(("127.0.0.1", h.port))
                m.say(packet(first, *["<a@example.org>"] * (first == "M")), connect())
                m.hear()
        assert other.message(PLAIN) == [("c", b"")]
        assert h.gateway.log().count("protocol fault") >= len(FAULTS)


def test_who_is_no_client_is_closed_at_once():
    with House(options=', clients = { "192.0.2.0/24" }') as h:
        with pytest.raises((Closed, ConnectionError)):
            h.mta()
        assert "127.0.0.1 is not among its clients" in h.gateway.log()


def test_the_line_of_a_connection_counts_packets_and_messages():
    with House("function on.mail(s, m, f) end") as h:
        m = h.mta().begin()
        m.say(packet("Q"))
        assert m.is_closed()
        m = h.mta().begin()
        assert m.message(PLAIN) == [("c", b"")]
        m.event("M", packet("M", "<a@example.org>"), macros("M", i="Q1"))
        m.say(packet("C"))  # a fault, amid the second message
        assert m.is_closed()
        until(lambda: len(h.lines("conn")) == 2)
        first, second = h.lines("conn")
        assert " why=quit errors=0 packets=5 messages=0 t_total=" in first  # O, D and C, H, Q
        assert re.search(' why="protocol fault" errors=1 packets=[0-9]+ messages=2 t_total=', second)


# ---- ends, at every point

def conversation(n=1):
    return [packet("M", "<a%d@example.org>" % n), packet("R", "<b@example.net>"), packet("T"), packet("L", "Subject", " s"), packet("N"), packet("B", data=b"body\r\n")]


WAITS = "function on.%s(s, m) sleep('20s') end"


@pytest.mark.parametrize("end", ["A", "K", "Q", "closed", "reset", "M", "H"])
def test_the_end_of_a_message_at_every_point(end):
    script = "".join("function on.%s(%s) end " % f for f in (("mail", "s, m, a"), ("rcpt", "s, m, a"), ("data", "s, m"), ("headers", "s, m"), ("body", "s, m, c"), ("message", "s, m")))
    script += "function on.reset(s, m) log.info('reset ' .. tostring(m.outcome)) end function on.disconnect(s) log.info('bye') end"
    with House(script) as h:
        for n in range(1, 7):
            m = h.mta().begin()
            for kind, one in zip("MRTLNB", conversation()[:n]):
                assert m.event(kind, one)[0] == "c"
            if end == "closed":
                m.close()
            elif end == "reset":
                m.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                m.close()
            elif end in "MH":
                if end == "H":
                    assert m.event("H", packet("H", "again.example"))[0] == "c"
                assert m.message(PLAIN)[-1][0] == "c"
            else:
                m.say(packet(end))
                if end == "K":
                    m.begin()
                if end == "Q":
                    assert m.is_closed()
                else:
                    assert m.message(PLAIN)[-1][0] == "c"
                    m.close()
        deadline = time.monotonic() + 10 * SLOW
        while len([l for l in h.lines("msg") if "verdict=abort" in l]) < 6 and time.monotonic() < deadline:
            pass
        assert len([l for l in h.lines("msg") if "verdict=abort" in l]) == 6
        resets = [l for l in h.lines("script") if "reset aborted" in l]
        assert len(resets) == 6
        assert not h.lines("conn") or end == "K"


@pytest.mark.parametrize("stage,at", [("mail", 1), ("rcpt", 2), ("data", 3), ("headers", 5), ("body", 7), ("message", 7)])
@pytest.mark.parametrize("end", ["A", "K", "Q", "closed"])
def test_an_end_does_not_wait_for_a_filter(stage, at, end):
    with House("function on.%s(s, m) sleep('60s') end function on.reset(s, m) log.info('reset') end" % stage) as h:
        m = h.mta().begin()
        said = conversation() + [packet("E")]
        kinds = "MRTLNBE"
        for kind, one in list(zip(kinds, said))[:at - 1]:
            m.event(kind, one)
        m.say(said[at - 1])
        time.sleep(0.1 * SLOW)
        if end == "closed":
            m.close()
        else:
            m.say(packet(end))
            if end == "Q":
                assert m.is_closed()
            elif end == "K":
                m.begin()
                assert m.event("M", packet("M", "<>"))[0] == "c" if stage != "mail" else True
        deadline = time.monotonic() + 10 * SLOW
        while not h.lines("msg") and time.monotonic() < deadline:
            pass
        assert "verdict=abort" in h.lines("msg")[0] and "reset" in h.lines("script")[0]


def test_another_client_on_the_same_connection_is_another_client():
    script = """
    function on.connect(s) s.vars.n = (s.vars.n or 0) + 1 log.info("n " .. s.vars.n .. " " .. s.ip) end
    function on.mail(s, m, f) log.info("tls " .. tostring(s.tls) .. " auth " .. tostring(s.auth) .. " helo " .. tostring(s.helo)) end
    """
    with House(script) as h:
        m = h.mta()
        m.event("C", connect(ip="192.0.2.1"))
        m.event("H", packet("H", "one.example"), macros("H", tls_version="TLSv1.2", cipher="X"))
        m.event("M", packet("M", "<a@example.org>"), macros("M", auth_type="PLAIN", auth_authen="bob"))
        m.say(packet("K"))
        m.event("C", connect(ip="192.0.2.2"))
        m.event("M", packet("M", "<a@example.org>"))
        said = [re.search(r'msg="(.*)"', l).group(1) for l in h.lines("script")]
        assert said[0] == "n 1 192.0.2.1" and said[2] == "n 1 192.0.2.2"
        assert "helo one.example" in said[1] and said[3].startswith("tls nil auth nil helo ") and "one" not in said[3]
        ids = [re.search(r" id=(\w+)", l).group(1) for l in h.lines("script")]
        assert len(set(ids)) == 2


# ---- everything in one write, or octet by octet

def test_a_whole_conversation_in_one_write_and_octet_by_octet():
    with House("function on.message(s, m) m.headers:add('N', 'v', 'bottom') end".replace("function", "edits_late() function", 1)) as h:
        said = packet("O", data=struct.pack(">III", 6, 0x1FF, 0x1FFFFF)) + connect() + packet("H", "x.example") + b"".join(
            b"".join(p for p in conversation(n) if p[4:5] != b"T") + packet("E") for n in (1, 2)) + packet("Q")
        answers = []
        for chop in (len(said), 1):
            m = Mta(("127.0.0.1", h.port))
            m.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(said), chop):
                m.socket.sendall(said[at:at + chop])
            got = []
            while True:
                try:
                    got.append(m.hear())
                except (Closed, ConnectionError):
                    break
            answers.append(got)
        assert answers[0] == answers[1]
        assert [k for k, _ in answers[0]] == ["O", "i", "c", "i", "c"]


def test_a_large_packet_comes_whole_in_reads_of_any_size():
    """Each read pins a block that is larger than itself: the pipe is full of them before the packet is whole."""
    with House("function on.body(s, m, c) end", ', timeouts { packet = "%ds" }' % (5 * SLOW)) as h:
        for size in (40000, 33000, 70000):
            m = h.mta().begin()
            m.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            m.event("M", packet("M", "<a@example.org>"))
            m.event("R", packet("R", "<b@example.net>"))
            said = packet("L", "A", " 1") + packet("N") + packet("B", data=b"0123456789abcdef" * 65536) + packet("E")
            for at in range(0, len(said), size):
                m.say(said[at:at + size])
                time.sleep(0.01)
            assert not m.awaits("N") and [m.hear(), m.hear()] == [("c", b"")] * 2


# ---- limits

def test_limits_are_told_where_they_are_met():
    with House("function on.rcpt(s, m, to) end function on.headers(s, m) end", ', limits { header_size = "4K", recipients = 3 }') as h:
        m = h.mta().begin()
        got = m.message(b"".join(b"A%d: %s\r\n" % (n, b"x" * 1000) for n in range(8)) + b"\r\nbody\r\n")
        assert got == [("y", b"552 5.3.4 Header section too large\0")]
        got = m.message(PLAIN, recipients=["<b%d@example.net>" % n for n in range(5)])
        assert [t[:1][0] for t in m.told] == ["c"] * 3 + ["y"] * 2 and m.told[4][1].startswith(b"452 4.5.3") and got[-1][0] == "c"


def test_the_mail_of_one_connection_too_many_is_put_off():
    with House("function on.mail(s, m, f) end", ", connections = 1") as h:
        first, second = h.mta().begin(), h.mta().begin()
        assert second.event("M", packet("M", "<a@example.org>"))[0] == "t"
        assert first.message(PLAIN)[-1][0] == "c"
        first.say(packet("Q"))
        assert first.is_closed()
        assert second.message(PLAIN)[-1][0] == "c"


def test_a_filter_that_holds_up_a_long_body_holds_up_the_mta():
    with House("function on.headers(s, m) sleep('2s') end function on.body(s, m, c) end") as h:
        m = h.mta().begin()
        began = time.monotonic()
        got = m.message(b"A: 1\r\n\r\n" + b"x" * 70 * 50000)
        assert got[-1][0] == "c" and time.monotonic() - began > 1.5


# ---- clocks

def test_filters_are_timed_out_before_the_mta_gives_up():
    with House("function on.rcpt(s, m, to) sleep('60s') end function on.message(s, m) sleep('60s') end", ', timeouts { command = "1s", end_by = "2s" }, progress = "500ms"') as h:
        m = h.mta().begin()
        began = time.monotonic()
        m.event("M", packet("M", "<a@example.org>"))
        assert m.event("R", packet("R", "<b@example.net>")) == ("y", b"451 4.3.0 Internal error, try again later\0")
        assert 0.8 < time.monotonic() - began < 8 * SLOW
        m.say(packet("A"))


def test_the_end_of_a_message_says_that_it_is_at_work():
    with House("function on.message(s, m) sleep('60s') end", ', timeouts { end_by = "2s" }, progress = "500ms"') as h:
        m = h.mta().begin()
        m.event("M", packet("M", "<a@example.org>"))
        m.say(packet("R", "<b@example.net>"), packet("L", "A", " 1"), packet("N"), packet("B", data=b"x\r\n"), packet("E"))
        got = [m.hear()]
        while got[-1][0] == "p":
            got.append(m.hear())
        assert 2 <= len(got) - 1 <= 5 and got[-1] == ("y", b"451 4.3.0 Internal error, try again later\0")


@pytest.mark.parametrize("said", [[b"\0\0\0\5"], [packet("M", "<a@example.org>"), packet("R", "<b@example.net>"), packet("L", "A", " 1")]])
def test_half_a_packet_and_half_a_content_have_a_clock(said):
    with House("function on.message(s, m) end", ', timeouts { packet = "1s" }') as h:
        m, patient = h.mta().begin(), h.mta().begin()
        m.say(*said)
        began = time.monotonic()
        assert m.is_closed() and 0.5 < time.monotonic() - began < 8 * SLOW
        patient.event("M", packet("M", "<a@example.org>"))
        time.sleep(1.3)
        assert patient.content(PLAIN)[-1][0] == "c"


def test_an_idle_mta_is_left():
    with House(options=', timeouts { idle = "1s" }') as h:
        m = h.mta().begin()
        assert m.is_closed()


# ---- reload and drain

def test_a_reload_changes_the_chain_of_new_clients_only():
    with House("function on.rcpt(s, m, to) return reject('550 5.1.1 old') end") as h:
        m = h.mta().begin()
        with open(os.path.join(h.gateway.folder, "filters/f.lua"), "w") as f:
            f.write("function on.rcpt(s, m, to) return reject('550 5.1.1 new') end")
        code, out, err = reload(h)
        m.event("M", packet("M", "<a@example.org>"))
        assert m.event("R", packet("R", "<b@example.net>"))[1] == b"550 5.1.1 old\0"
        m.say(packet("K"))
        m.begin()
        m.event("M", packet("M", "<a@example.org>"))
        assert m.event("R", packet("R", "<b@example.net>"))[1] == b"550 5.1.1 new\0"
        m = h.mta().begin()
        m.event("M", packet("M", "<a@example.org>"))
        assert m.event("R", packet("R", "<b@example.net>"))[1] == b"550 5.1.1 new\0"


def reload(h):
    before = h.gateway.written().count("generation") + h.gateway.written().count("reload")
    h.gateway.process.send_signal(1)
    deadline = time.monotonic() + 20 * SLOW
    while h.gateway.written().count("generation") + h.gateway.written().count("reload") == before and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1 * SLOW)
    return 0, "", ""


def test_a_drain_finishes_messages_and_sends_others_away():
    with House("function on.mail(s, m, f) end function on.headers(s, m) end", more='timeouts { drain = "20s" }') as h:
        amid, idle = h.mta().begin(), h.mta().begin()
        amid.event("M", packet("M", "<a@example.org>"))
        amid.event("R", packet("R", "<b@example.net>"))
        h.gateway.process.send_signal(15)
        time.sleep(0.3 * SLOW)
        assert idle.event("M", packet("M", "<a@example.org>")) == ("y", b"421 4.3.2 Service shutting down, try again\0")
        assert idle.is_closed()
        assert amid.content(PLAIN)[-1] == ("c", b"")
        assert amid.event("M", packet("M", "<a@example.org>"))[1].startswith(b"421 4.3.2")
        assert amid.is_closed()
        h.gateway.process.wait(20 * SLOW)


def test_a_drain_whose_grace_is_over_defers():
    with House("function on.headers(s, m) sleep('20s') end", more='timeouts { drain = "1s" }') as h:
        m = h.mta().begin()
        m.event("M", packet("M", "<a@example.org>"))
        m.say(packet("R", "<b@example.net>"), packet("L", "A", " 1"), packet("N"))
        time.sleep(0.2 * SLOW)
        h.gateway.process.send_signal(15)
        assert m.hear()[1].startswith(b"451 4.3.2")
        assert m.is_closed()
        h.gateway.process.wait(20 * SLOW)


# ---- the configuration

@pytest.mark.parametrize("text,words", [
    ('milter "m" { "127.0.0.1:1", chain = "c" } chain "c" { filter "r.lua" { } }', "a milter never hears the next hop's reply"),
    ('milter "m" { "127.0.0.1:1", chain = "d" }', 'there is no chain "d"'),
    ('milter "m" { chain = "c" } chain "c" { }', "an unnamed element is missing"),
    ('milter "m" { "127.0.0.1:1", mode = "rw" }', 'expected a text like "0660"'),
    ('milter "m" { "127.0.0.1:1", group = "nobody-is-of-it" }', "there is no group"),
    ('milter "m" { "127.0.0.1:1" } milter "n" { "127.0.0.1:1" }', 'is taken by milter "m"'),
    ('milter "m" { "127.0.0.1:1" } milter "m" { "127.0.0.1:2" }', "there is a milter"),
    ('milter "m" { "127.0.0.1:1", timeouts { drain = "1s" } }', "unknown name"),
    ('milter "m" { "127.0.0.1:1", route = "x" }', "unknown name"),
    ('milter "m" { "127.0.0.1:1", clients = { "0.0.0.0/0" } }', "trusts the whole internet"),
    ('milter "m" { "127.0.0.1:1", chain = "c" } chain "c" { filter "e.lua" { timeout = "50s" } }', "is cut to 25s in milter"),
])
def test_mistakes_are_told(text, words):
    g = Gateway(text, {"filters/r.lua": "function on.reply(s, m, r) end", "filters/e.lua": "function on.mail(s, m, f) end"})
    done = subprocess.run([SLUICE, "check", "-c", g.conf], capture_output=True, text=True)
    assert words in done.stderr, done.stderr
    assert (done.returncode == 0) == ("warning: " in without_root(done.stderr) and "error: " not in done.stderr)


def test_a_milter_alone_is_a_configuration_and_is_explained():
    g = Gateway('milter "m" { "127.0.0.1:1", "unix:/tmp/x", chain = "c" } chain "c" { filter "e.lua" { only = { listen = { "m" } } } }',
                {"filters/e.lua": "edits_body() function on.body(s, m, c) end"})
    done = subprocess.run([SLUICE, "check", "--explain", "-c", g.conf], capture_output=True, text=True)
    assert done.returncode == 0 and without_root(done.stderr) == ""
    assert 'milter "m" inet:127.0.0.1:1 unix:/tmp/x' in done.stdout and "CHGBODY" in done.stdout and "body       is held" in done.stdout


def test_a_unix_socket_has_the_mode_it_was_given():
    g = Gateway('milter "m" { "unix:@DIR@/m", mode = "0600" }').start()
    assert os.stat(g.folder + "/m").st_mode & 0o777 == 0o600
    m = Mta(g.folder + "/m").negotiate()
    assert m.begin().message(PLAIN)[-1][0] == "c"
    assert not g.stop()
    assert not os.path.exists(g.folder + "/m")
