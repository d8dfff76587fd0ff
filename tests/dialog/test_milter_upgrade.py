"""The binary and the configuration are replaced while MTAs are amid a message, between two, and wait for a filter: each message ends with the
verdict of the chain that it began with, and connections end where docs/milter.md says."""
import os
import re
import time

import pytest
from gateway import SLOW, free_port, rewrite
from mta import Closed, Mta, connect, edits, macros, packet
from test_upgrade import World, until

HEAD = b"Subject: s\r\n\r\n"
CONTENT = HEAD + b"body\r\n"
SCRIPT = """edits_late()
function on.mail(s, m, from) end
function on.rcpt(s, m, to) if m.from.localpart == "rcpt" then sleep "%(nap)s" end end
function on.headers(s, m) if m.from.localpart == "headers" then sleep "%(nap)s" end end
function on.message(s, m)
  if m.from.localpart == "message" then sleep "%(nap)s" end
  m.headers:add("N", "%(name)s", "bottom")
end
"""
MILTER = 'milter "mta" { "127.0.0.1:%d", chain = "m" } chain "m" { filter "f.lua" { } }'


class Mill:
    """A gateway that is a milter, its MTAs, and what it logs."""

    def __init__(self, world, drain, nap):
        self.mta_port, self.nap = free_port(), nap
        self.world = world(start=False, drain=drain)
        self.milter(MILTER)
        self.script("old")
        self.world.gateway.start()

    def milter(self, text):
        rewrite(self.world.gateway, self.world.conf(top=text % self.mta_port if "%d" in text else text))

    def script(self, name, text=SCRIPT):
        folder = os.path.join(self.world.gateway.folder, "filters")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "f.lua"), "w") as f:
            f.write(text % dict(nap=self.nap, name=name))

    def mta(self):
        return Mta(("127.0.0.1", self.mta_port), patience=60 * SLOW).negotiate().begin()

    def verdicts(self):
        return sorted(re.search(r"from=<(\w*)@.* verdict=(\w+)", l).groups() for l in self.world.gateway.log().splitlines() if "event=msg " in l)


@pytest.fixture
def mill(tmp_path):
    made = []

    def make(drain="60s", nap="4s"):
        def world(**kw):
            made.append(World(tmp_path, **kw))
            return made[-1]
        return Mill(world, drain, nap)
    yield make
    for w in made:
        w.end()


def name_mail(m, name):
    assert m.event("M", packet("M", "<%s@x.test>" % name), macros("M", i="Q"))[0] == "c"


def begin(m, name):
    name_mail(m, name)
    assert m.event("R", packet("R", "<1@y.test>"))[0] == "c"
    return m


def is_judged_by(got, name):
    return edits(got) == ["i 1073741823 N: " + name] and got[-1] == ("c", b"")


class Guests:
    """An MTA at each of the places where something may be under way."""

    def __init__(self, mill):
        self.between, self.named, self.content = mill.mta(), begin(mill.mta(), "named"), begin(mill.mta(), "content")
        self.rcpt, self.headers, self.message = mill.mta(), begin(mill.mta(), "headers"), begin(mill.mta(), "message")
        assert is_judged_by(self.between.message(CONTENT, "<first@x.test>"), "old")
        self.content.say(packet("L", "Subject", " s"), packet("N"))
        assert self.content.hear()[0] == "c"
        self.content.say(packet("B", data=b"bo")[:-1])  # amid a packet, too
        name_mail(self.rcpt, "rcpt")
        self.rcpt.say(packet("R", "<1@y.test>"))
        self.headers.say(packet("L", "Subject", " s"), packet("N"))
        self.message.say(packet("L", "Subject", " s"), packet("N"))
        assert self.message.hear()[0] == "c"
        self.message.say(packet("B", data=b"body\r\n"), packet("E"))

    def finish_as(self, name):
        """All that is under way ends as it would have."""
        assert self.rcpt.hear()[0] == "c"
        assert is_judged_by(self.rcpt.content(CONTENT), name)
        assert self.headers.hear()[0] == "c"
        self.headers.say(packet("B", data=b"body\r\n"), packet("E"))
        assert is_judged_by(self.headers.final(), name)
        assert is_judged_by(self.message.final(), name)
        self.content.say(b"o", packet("E", data=b"dy\r\n"))
        assert is_judged_by(self.content.final(), name)
        assert is_judged_by(self.named.content(CONTENT), name)

    def all(self):
        return self.between, self.named, self.content, self.rcpt, self.headers, self.message


FIRST = [(n, "forwarded") for n in ("content", "first", "headers", "message", "named", "rcpt")]


def test_what_is_under_way_ends_in_the_old_process_and_new_connections_begin_in_the_new(mill):
    h = mill()
    guests = Guests(h)
    h.script("new")
    second = h.world.upgrade().pid
    new = h.mta()
    assert is_judged_by(new.message(CONTENT, "<new@x.test>"), "new")
    guests.finish_as("old")
    assert is_judged_by(guests.between.message(CONTENT, "<again@x.test>"), "old")  # it is not asked to leave at once
    assert "process %d" % second in h.world.gateway.ask("status")[1]
    for m in guests.all():
        m.say(packet("Q"))
        assert m.is_closed()
    assert h.world.left[0].wait(20 * SLOW) == 0
    assert is_judged_by(new.message(CONTENT, "<new@x.test>"), "new")
    until(lambda: len(h.verdicts()) == 9, h.world.gateway)
    assert h.verdicts() == sorted(FIRST + [("again", "forwarded")] + [("new", "forwarded")] * 2)


def test_who_is_still_there_after_the_grace_of_an_upgrade_is_sent_away_between_two_messages(mill):
    """The filter of one does not answer before the end of the second grace: 451."""
    h = mill(drain="%ds" % (3 * SLOW), nap="100s")
    between, content, headers = h.mta(), begin(h.mta(), "content"), begin(h.mta(), "headers")
    assert is_judged_by(between.message(CONTENT, "<first@x.test>"), "old")
    headers.say(packet("L", "Subject", " s"), packet("N"))
    h.world.upgrade()
    time.sleep(3.5 * SLOW)  # the grace is over, and that of a drain has begun
    assert between.event("M", packet("M", "<a@x.test>"))[1].startswith(b"421 4.3.2")
    assert between.is_closed()
    assert is_judged_by(content.content(CONTENT), "old")
    assert content.event("M", packet("M", "<a@x.test>"))[1].startswith(b"421 4.3.2")
    assert content.is_closed()
    assert headers.hear()[1].startswith(b"451 4.3.2")
    assert headers.is_closed()
    assert h.world.left[0].wait(30 * SLOW) == 0
    until(lambda: len(h.verdicts()) == 3, h.world.gateway)
    assert [v for v in h.verdicts() if v[1] == "forwarded"] == [("content", "forwarded"), ("first", "forwarded")]


def reload(h):
    code, out, err = h.world.gateway.ask("reload")
    assert code == 0, err


def test_a_reload_leaves_alone_what_is_under_way(mill):
    h = mill()
    guests = Guests(h)
    h.script("new")
    reload(h)
    reload(h)  # and the one that began between two
    guests.finish_as("old")
    assert is_judged_by(guests.between.message(CONTENT, "<again@x.test>"), "old")  # a connection keeps its chain
    guests.between.say(packet("K"))
    assert is_judged_by(guests.between.begin().message(CONTENT, "<new@x.test>"), "new")  # but for another client
    assert is_judged_by(h.mta().message(CONTENT, "<new@x.test>"), "new")
    until(lambda: len(h.verdicts()) == 9, h.world.gateway)
    assert h.verdicts() == sorted(FIRST + [("again", "forwarded")] + [("new", "forwarded")] * 2)


def test_a_chain_that_asks_for_more_than_was_agreed_upon_is_for_new_connections_only(mill):
    """Another client on a connection that was negotiated for less: no edit may be said there that the MTA was not asked about."""
    h = mill()
    more = "edits_body() function on.body(s, m, c) c:replace('%(name)s\\r\\n') end -- %(nap)s"
    m = h.mta()
    assert is_judged_by(m.message(CONTENT, "<a@x.test>"), "old")
    h.script("new", more)
    reload(h)
    for n in range(2):
        m.say(packet("K"))
        assert is_judged_by(m.begin().message(CONTENT, "<a@x.test>"), "old")
    assert edits(h.mta().message(CONTENT, "<a@x.test>")) == ["b new\r\n"]
    h.script("third")
    reload(h)
    m.say(packet("K"))
    assert is_judged_by(m.begin().message(CONTENT, "<a@x.test>"), "third")  # as little as the first


def test_a_listener_that_a_reload_takes_away_finishes_its_messages(mill):
    h = mill()
    guests = Guests(h)
    h.milter(MILTER.replace("%d", str(free_port())).replace('"mta"', '"other"'))
    reload(h)
    with pytest.raises((Closed, ConnectionError)):
        h.mta()
    guests.finish_as("old")
    for m in guests.all():
        assert m.event("M", packet("M", "<a@x.test>"))[1].startswith(b"421 4.3.2")
        assert m.is_closed()
    until(lambda: len(h.verdicts()) == len(FIRST), h.world.gateway)
    assert h.verdicts() == FIRST


def test_a_client_is_known_again_behind_an_upgrade(mill):
    """The connection of the old process goes on with another client there: macros and client are its own."""
    h = mill()
    m = h.mta()
    h.script("new")
    h.world.upgrade()
    m.say(packet("K"))
    assert m.event("C", connect(ip="192.0.2.9"), macros("C", j="mta.test"))[0] == "c"
    assert is_judged_by(m.message(CONTENT, "<a@x.test>"), "old")
    until(lambda: "client=192.0.2.9 " in h.world.gateway.log(), h.world.gateway)
