"""sluice try: what a message meets. A zone in place of the DNS, stores over those of a running process or filled from a file, services, milters."""
import json
import os
import re
import socket
import subprocess

import probe
import pytest

from gateway import SLUICE
from house import House
from test_try import PLAIN, golden, judge, place, run_try, sluice_try  # noqa: F401

ASKS = """
function on.rcpt(s, m, to)
  local kind, name = tostring(to):match "^(%w+)%.(.-)@"
  local r, why = dns[kind](name)
  local first = r and (type(r[1]) == "table" and (r[1].name .. "/" .. (r[1].preference or r[1].serial or r[1].port)) or tostring(r[1]))
  return reject("550 5.7.1 %s %s %s", first or "nothing", r and "found" or why, r and #r or 0)
end
"""
ZONE = {"zone": {
    "host.test": [["A", "192.0.2.1"], ["A", "192.0.2.2", 60], ["AAAA", "2001:DB8::0:1"], ["MX", [10, "MX.test."]], ["TXT", ["one ", "two"]], ["SOA", ["ns.test", "x.test", 7, 1, 1, 1, 1]]],
    "Alias.Test.": [["CNAME", "host.test"]], "lost.test": [["CNAME", "gone.test"]], "ring.test": [["CNAME", "ring.test"]],
    "*.wild.test": [["A", "192.0.2.9"]], "there.wild.test": [["TXT", "x"]], "a.b.deep.test": [["A", "192.0.2.3"]],
    "1.2.0.192.in-addr.arpa": [["PTR", "host.test"]], "slow.test": [["DELAY", ["*", 200]], ["A", "192.0.2.4"]],
    "fail.test": [["SERVFAIL", "*"], ["TXT", "still"]], "closed.test": [["REFUSED", "*"]], "odd.test": [["FORMERR", "A"]], "not.test": [["NXDOMAIN", "A"], ["A", "192.0.2.5"]],
    "cut.test": [["TRUNC", "*"], ["A", "192.0.2.6"]], "b64.test": [["TXT", {"b64": "aGVsbG8="}]], "srv.test": [["SRV", [0, 1, 25, "host.test"]]],
    "silent.test": [["TIMEOUT", "*"]]}}


@pytest.mark.parametrize("question,answer", [
    ("a.host.test", "192.0.2.1 found 2"), ("aaaa.HOST.test.", "2001:db8::1 found 1"), ("mx.host.test", "mx.test/10 found 1"), ("txt.host.test", "one two found 1"),
    ("soa.host.test", "ns.test/7 found 1"), ("a.alias.test", "192.0.2.1 found 2"), ("a.lost.test", "nothing nxdomain 0"), ("a.ring.test", "nothing servfail 0"),
    ("a.x.wild.test", "192.0.2.9 found 1"), ("a.there.wild.test", "nothing nodata 0"), ("a.x.there.wild.test", "nothing nxdomain 0"), ("a.b.deep.test", "nothing nodata 0"),
    ("a.other.test", "nothing nxdomain 0"), ("ptr.192.0.2.1", "host.test found 1"), ("a.slow.test", "192.0.2.4 found 1"), ("a.fail.test", "nothing servfail 0"),
    ("txt.fail.test", "still found 1"), ("a.closed.test", "nothing refused 0"), ("a.odd.test", "nothing bad 0"), ("a.not.test", "nothing nxdomain 0"),
    ("a.cut.test", "192.0.2.6 found 1"), ("txt.b64.test", "hello found 1"), ("srv.srv.test", "host.test/25 found 1")])
def test_a_zone_answers_in_place_of_the_dns(sluice_try, place, question, answer):
    (place / "asks.lua").write_text(ASKS)
    (place / "zone.json").write_text(json.dumps(ZONE))
    got = sluice_try('filter "asks.lua"', PLAIN, "--to", question + "@x.test" if not question.endswith(".") else '"%s"@x.test' % question,
                     "--dns", "zone.json", "--json", more='dns { servers = { "127.0.0.1:9" } }\n')
    text = got.json["text"] if got.code == 1 else got.out + got.err
    assert text == answer
    assert (got.json["calls"][0]["wait"] > 0.15) == ("slow" in question)


def test_silence_in_a_zone_lasts_as_long_as_a_question_may(sluice_try, place):
    (place / "asks.lua").write_text('function on.rcpt() local r, why = dns.a("silent.test", { timeout = "300ms" }) return reject("550 5.7.1 %s", why) end')
    (place / "zone.json").write_text(json.dumps(ZONE))
    got = sluice_try('filter "asks.lua" { timeout = "2s" }', PLAIN, "--dns", "zone.json", "--json").json
    assert got["text"] == "timeout" and got["verdict"] == "reject", got
    assert got["calls"][0]["wait"] > 0.25


def test_a_zone_serves_when_nothing_may_be_dialled(sluice_try, place):
    (place / "asks.lua").write_text(ASKS)
    (place / "zone.json").write_text(json.dumps(ZONE))
    got = sluice_try('filter "asks.lua"', PLAIN, "--to", "a.host.test@x.test", "--offline", "--dns", "zone.json")
    assert "192.0.2.1 found 2" in got.out and "DNS of zone.json" in got.out and "offline" in got.out


@pytest.mark.parametrize("text,what", [
    ("", ":1: the text ends too early"), ("[]", ":1: expected {\"zone\""), ('{"zone": []}', ":1: expected {\"zone\""), ('{"zone": {"a": [["A", "x"]]}}', ":1: expected an IPv4 address"),
    ('{"zone":\n{"a":\n [["AAAA",\n "1.2.3.4"]]}}', ":4: expected an IPv6 address"), ('{"zone": {"a": [["B", "x"]]}}', ":1: unknown type of record"),
    ('{"zone": {"a": [\n["A"]]}}', ":2: expected a record"), ('{"zone": {"a..b": []}}', "empty label"), ('{"zone": {"a": 3}}', "expected the list of a name's records"),
    ('{"zone": {"a": [["MX", ["x", 1]]]}}', "expected a list of the record's"), ('{"zone": {"a": [["MX", [1, "x", 2]]]}}', "more than the record"),
    ('{"zone": {"a": [["DELAY", ["*", -1]]]}}', "MILLISECONDS"), ('{"zone": {"a": [["A", "1.2.3.4", -1]]}}', "a TTL in seconds"),
    ('{"zone": {"a": [["TXT", 7]]}}', "expected a text"), ('{"zone": {"a": [],\n"a": []}}', ":2: a key that is there twice"), ('{"zone": {}} x', "something stands behind")])
def test_mistakes_in_a_zone_have_their_line(sluice_try, place, text, what):
    (place / "zone.json").write_text(text)
    got = sluice_try(judge("none"), PLAIN, "--dns", "zone.json")
    assert got.code == 2 and "zone.json:" in got.err and what in got.err and not got.out, got.err


# ---- stores

COUNTS = """
local st = store()
function on.rcpt(s, m, to)
  local who = tostring(to)
  if st:get("known:" .. who) then return end
  local n = st:incr("n", 1, "1h")
  st:set_add("seen", who, "1h")
  local r = st:rate("r", 100, "1h")
  return reject("550 5.7.1 %d %d %s %s", n, r.count, tostring(st:set_has("seen", "ann@example.org")), st:get("text") or "none")
end
"""


def test_stores_lie_over_those_of_the_running_process(tmp_path):
    with House('filter "counts.lua"', {"counts.lua": COUNTS}, more='control "@DIR@/control"\n') as house:
        heard = house.ask("ann", "ann", "ann")
        assert [h[:13] for h in heard] == ["550 5.7.1 1 1", "550 5.7.1 2 2", "550 5.7.1 3 3"]
        tried = run_try("-c", house.gateway.conf, PLAIN, PLAIN, "--to", "bob@example.org", "--json").json
        assert [t["text"] for t in tried] == ["4 4 true none", "5 5 true none"]
        first = run_try("-c", house.gateway.conf, PLAIN, "--to", "bob@example.org").out.splitlines()[0]
        assert first.endswith("; stores: overlay of process %d" % house.pid)
        assert run_try("-c", house.gateway.conf, PLAIN, "--stable", "--to", "bob@example.org").out.splitlines()[0].endswith("overlay of process 0")
        assert house.ask("ann") == ["550 5.7.1 4 4 true none"]  # what was tried has written nothing there
        conf = house.gateway.conf
        text = open(conf).read()
    (tmp_path / "counts.lua").write_text(COUNTS)
    (tmp_path / "sluice.lua").write_text(re.sub(r'control ".*"', 'control "%s/control"' % tmp_path, text))
    got = run_try("-c", str(tmp_path / "sluice.lua"), PLAIN, "--to", "bob@example.org").out
    assert "stores: new and empty (no process answers)" in got and "1 1 false none" in got


@pytest.mark.parametrize("order", [b"image", b"image other", b"image default 6", b"image default 6x", b"image default " + b"61" * 1025])
def test_an_order_for_a_key_that_cannot_be(order):
    with House("", more='control "@DIR@/control"\n') as house:
        s = socket.socket(socket.AF_UNIX)
        s.connect(house.gateway.folder + "/control")
        s.sendall(order + b"\n")
        assert s.makefile("rb").read() == b"no 2\nno such store, or no key in hexadecimal digits\n"


def test_stores_are_filled_from_lines(sluice_try, place):
    (place / "counts.lua").write_text(COUNTS)
    lines = [{"key": "counts/n", "kind": "value", "value": 41, "left": 60}, {"store": "default", "key": "counts/text", "value": "from a file", "left": None},
             {"key": "counts/known:bob@example.org", "value": "yes"}, {"key": "counts/r", "kind": "rate", "value": 7}]
    (place / "s.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n")
    got = sluice_try('filter "counts.lua"', PLAIN, "--to", "ann@example.org", "--to", "bob@example.org", "--store", "s.json")
    assert "42 1 true from a file" in got.out and "stores: new and empty and 3 keys of s.json" in got.out and got.code == 0, got.out
    assert "1 keys are no plain values" in got.err


@pytest.mark.parametrize("text,what", [("x", "s.json:1: expected a value"), ('\n{"key": "a/b", "value": 1.5}', "s.json:2: \"value\""), ('{"key": "ab", "value": 1}', "FILTER/KEY"),
                                       ('{"value": 1}', 'with "key"'), ('{"key": "a/b", "value": 1, "store": "other"}', '"store"'), ('{"key": "a/b", "value": 1, "left": 0}', '"left"')])
def test_mistakes_in_such_lines_have_their_line(sluice_try, place, text, what):
    (place / "s.json").write_text(text)
    got = sluice_try(judge("none"), PLAIN, "--store", "s.json")
    assert got.code == 2 and what in got.err


# ---- services, milters, many

def test_services_that_were_asked_are_counted(sluice_try, place):
    service = socket.create_server(("127.0.0.1", 0))
    chain = 'filter "probe" { "rcpt: dial 127.0.0.1:%d x" }' % service.getsockname()[1]
    more = 'module "%s"\n' % probe.built(SLUICE)
    assert sluice_try(chain, PLAIN, more=more).out.splitlines()[0].endswith("; 1 service")
    assert re.search(r"^2 messages in .*; 1 service$", sluice_try(chain, PLAIN, PLAIN, more=more).out, re.M)
    assert "service" not in sluice_try(judge("none"), PLAIN).out
    service.close()


@pytest.mark.parametrize("verdict,code,word", [("none", 0, "forwarded"), ("reject", 1, "reject"), ("quarantine", 3, "quarantine")])
def test_a_configuration_with_a_milter_only(sluice_try, place, verdict, code, word):
    (place / "sluice.lua").write_text("""hostname "mx.example.org"
chain "c" { %s, filter "body.lua", filter "rcpts.lua" }
milter "m" { "127.0.0.1:2525", chain = "c" }
""" % judge(verdict))
    got = run_try("-c", "sluice.lua", PLAIN, "--json", cwd=place)
    assert (got.code, got.json["verdict"], got.json["listen"], got.json["backend"]) == (code, word, "m", None), got.err
    assert run_try("-c", "sluice.lua", PLAIN, "--listen", "m", cwd=place).out.startswith("milter m, chain c; ")
    golden("milter_%s.txt" % word, run_try("-c", "sluice.lua", PLAIN, "--stable", cwd=place).out)


def test_a_milter_of_several_is_chosen_by_name(sluice_try, place):
    conf = """hostname "mx.example.org"
backend "b" { "127.0.0.1:10025" }
chain "one" { filter "judge.lua" }
chain "two" { filter "judge.lua" { verdict = "reject" } }
listen "x" { "127.0.0.1:2525", chain = "one" }
milter "m" { "127.0.0.1:2526", chain = "two" }
"""
    (place / "sluice.lua").write_text(conf)
    wrong = run_try("-c", "sluice.lua", PLAIN, "--listen", "m", "--reply", "rcpt=550 no", cwd=place)
    assert wrong.code == 2 and "a milter hears no next hop" in wrong.err
    assert [run_try("-c", "sluice.lua", PLAIN, "-q", *w, cwd=place).code for w in ([], ["--listen", "m"], ["--listen", "x"])] == [0, 1, 0]


def test_a_message_that_cannot_be_tried_keeps_no_other_from_it(sluice_try, place):
    (place / "lost.eml").write_text("Subject: to nobody\n\nx\n")
    got = sluice_try(judge("reject"), PLAIN, "lost.eml", "/nonexistent.eml", PLAIN, "--json")
    assert got.code == 2 and len(got.json) == 2 and "tells no recipient" in got.err and "/nonexistent.eml: No such file" in got.err and "2 messages in" in got.err


def test_ten_times_as_many_messages_take_no_more_memory(sluice_try, place):
    chain = 'filter "rcpts.lua", filter "late.lua", filter "body.lua"'
    sluice_try(chain, PLAIN)  # writes the configuration
    mail = "From a@b Mon Jan  5 10:00:00 2026\n" + open(PLAIN).read() + "\n"

    def rss(n):
        (place / "box").write_text(mail * n)
        child = subprocess.Popen([SLUICE, "try", "-c", str(place / "sluice.lua"), str(place / "box")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return usage.ru_maxrss
    small, large = rss(300), rss(3000)
    assert large - small < 30000 + 2700 * len(mail) // 1024, (small, large)  # the mailbox is read whole
