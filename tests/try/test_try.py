"""sluice try: saved messages through chains, as the gateway would judge them. Golden files are written anew with SLUICE_GOLDEN=1."""
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess

import probe
import pytest

from gateway import ROOT, SLOW, SLUICE
from house import Dns, House

HERE = os.path.dirname(os.path.abspath(__file__))
PLAIN = os.path.join(HERE, "mails", "plain.eml")
ODD = os.path.join(HERE, "mails", "odd.eml")
SCRIPTS = {
    "rcpts.lua": """
function on.rcpt(s, m, to)
  local name = tostring(to)
  if name:find("^eve") then return reject("550 5.1.1 <%s>: user unknown", name) end
  if name:find("^hold") then return defer("451 4.7.1 later") end
  if name:find("^drop") then return drop("421 4.7.0 go away") end
  if name:find("^lost") then return discard("not wanted") end
  if name:find("^add") then m.headers:add("X-Rcpt", name) end
end
""",
    "judge.lua": """
local opt = options { verdict = "none" }
function on.message(s, m)
  local verdicts = { reject = function() return reject("554 5.7.1 no") end, defer = function() return defer("451 4.3.0 later") end,
    drop = function() return drop("554 5.7.1 gone") end, discard = function() return discard("away") end,
    quarantine = function() return quarantine("odd") end, error = function() error("broken on purpose") end }
  if verdicts[opt.verdict] then return verdicts[opt.verdict]() end
end
""",
    "late.lua": """
edits_late()
function on.message(s, m)
  m.headers:add("X-Late", "yes")
  m.headers:remove("X-Originating-IP")
  m:add_rcpt("archive@example.org")
  m:set_from("bounces@example.org")
end
""",
    "body.lua": """
edits_body()
function on.body(s, m, chunk)
  chunk:replace((tostring(chunk:text()):gsub("second", "other")))
end
""",
    "watch.lua": """
function on.headers(s, m)
  log.info("seen")
  m.headers:add("X-Watch", "1")
  return reject("554 5.7.1 watched")
end
""",
    "facts.lua": """
function on.headers(s, m)
  m.headers:add("X-Facts", string.format("%s|%s|%s|%s|%s|%s", tostring(s.ip), s.helo, tostring(s.rdns), tostring(s.auth and s.auth.user),
    tostring(s.tls and s.tls.version), tostring(s.tls and s.tls.sni)))
end
function on.reply(s, m, r)
  if r.stage == "message" then return reword("reworded: %s", r.text) end
end
""",
    "names.lua": """
function on.rcpt(s, m, to)
  local r, why = dns.a("host.test")
  return reject("550 5.7.1 %s %s", r and tostring(r[1]) or "nothing", why or "")
end
""",
}
MORE = """
backend "other" { "127.0.0.1:10026" }
backend "jail" { "127.0.0.1:10027" }
"""


def clean(text):
    assert "AddressSanitizer" not in text and "runtime error" not in text and "LeakSanitizer" not in text, text
    return text


class Tried:
    def __init__(self, done):
        self.code = done.returncode
        self.out, self.err = done.stdout.decode("utf-8", "replace"), clean(done.stderr.decode("utf-8", "replace"))
        self.raw = done.stdout

    @property
    def json(self):
        lines = [json.loads(line) for line in self.out.splitlines()]
        return lines[0] if len(lines) == 1 else lines


def run_try(*words, stdin=b"", env=None, cwd=None):
    return Tried(subprocess.run([SLUICE, "try", *words], input=stdin, capture_output=True, cwd=cwd, timeout=60 * SLOW, env=dict(os.environ, **(env or {}))))


@pytest.fixture
def place(tmp_path):
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def sluice_try(place):
    """sluice_try(chain, words ...): `chain` as Lua; a whole configuration if it has a listener; None: no -c."""
    def run(chain, *words, stdin=b"", env=None, more=""):
        conf = []
        if chain is not None:
            text = chain if "listen " in chain else f"""hostname "mx.example.org"
{more}{MORE}
backend "postfix" {{ "127.0.0.1:10025" }}
chain "c" {{ quarantine = "jail", {chain} }}
listen "x" {{ "127.0.0.1:2525", backend = "postfix", chain = "c" }}
"""
            (place / "sluice.lua").write_text(text)
            conf = ["-c", str(place / "sluice.lua")]
        return run_try(*conf, *words, stdin=stdin, env=env, cwd=place)
    return run


def golden(name, text):
    path = os.path.join(HERE, "golden", name)
    if os.environ.get("SLUICE_GOLDEN"):
        with open(path, "w") as f:
            f.write(text)
    with open(path) as f:
        assert f.read() == text, "SLUICE_GOLDEN=1 writes it anew; look at what differs"


def judge(verdict):
    return 'filter "judge.lua" { verdict = "%s" }' % verdict


ALL = 'filter "rcpts.lua", filter "late.lua", filter "watch.lua" { observe = true }, filter "body.lua", filter "subject_tag.lua"'


# ---- what is printed

def words_of(name, to=("add@example.org", "eve@example.org")):
    return [os.path.join(HERE, "mails", name), "--stable", *(w for t in to for w in ("--to", t))]


@pytest.mark.parametrize("name", ["plain.eml", "odd.eml"])
def test_the_report_for_people(sluice_try, name):
    golden(name.replace(".eml", ".txt"), sluice_try(ALL, *words_of(name)).out)


def test_every_call_is_shown_with_v(sluice_try):
    golden("verbose.txt", sluice_try(ALL, *words_of("plain.eml"), "-v", "--diff").out)


@pytest.mark.parametrize("name", ["plain.eml", "odd.eml"])
def test_the_report_for_programs(sluice_try, name):
    got = sluice_try(ALL, *words_of(name), "--json")
    golden(name.replace(".eml", ".json"), json.dumps(got.json, indent=1) + "\n")
    assert got.out.count("\n") == 1 and str(HERE) not in got.out


def test_only_the_verdict_with_q(sluice_try):
    got = sluice_try(judge("reject"), PLAIN, "-q")
    assert re.fullmatch(r"verdict +REJECT at message by judge +554 5\.7\.1 no\n", got.out) and got.code == 1


def test_the_order_of_keys_is_fixed(sluice_try):
    got = sluice_try(ALL, PLAIN, "--json").json
    assert " ".join(got) == ("schema source conf listen chain offline session from rcpts calls edits verdict stage filter code enhanced text why "
                             "backend tags score octets_in octets_out sha256_out took waited run notes")
    assert " ".join(got["calls"][0]) == ("event id t n stage rcpt part filter place verdict applied code enhanced text why at run wait waits notes "
                                         "score log error")
    assert " ".join(got["edits"][0]) == "event id t n call filter kind name index before after applied"


def test_colour_needs_a_terminal(sluice_try):
    assert "\033" not in sluice_try(ALL, PLAIN).out


# ---- verdicts and exit codes

@pytest.mark.parametrize("verdict,code,word", [("none", 0, "forwarded"), ("reject", 1, "reject"), ("drop", 1, "drop"), ("discard", 3, "discard"),
                                               ("quarantine", 3, "quarantine"), ("defer", 75, "defer"), ("error", 75, "error")])
def test_verdicts_and_their_exit_codes(sluice_try, verdict, code, word):
    got = sluice_try(judge(verdict), PLAIN, "--json")
    assert (got.code, got.json["verdict"]) == (code, word)
    assert (got.json["sha256_out"] is not None) == (word in ("forwarded", "quarantine"))
    assert got.json["backend"] == {"forwarded": "postfix", "quarantine": "jail"}.get(word)


@pytest.mark.parametrize("on_error,code,verdict", [("reject", 1, "error"), ("continue", 0, "forwarded"), ("defer", 75, "error")])
def test_a_script_that_fails(sluice_try, on_error, code, verdict):
    got = sluice_try('filter "judge.lua" { verdict = "error", on_error = "%s" }' % on_error, PLAIN, "--json")
    call = next(c for c in got.json["calls"] if c["stage"] == "message")
    assert (got.code, got.json["verdict"]) == (code, verdict)
    assert call["verdict"] == "error" and "broken on purpose" in call["error"] and re.fullmatch(r"judge\.lua:\d+", call["at"])


@pytest.mark.parametrize("to,code,verdict", [("eve", 1, "reject"), ("hold", 75, "defer"), ("drop", 1, "drop"), ("lost", 3, "discard")])
def test_a_verdict_at_rcpt(sluice_try, to, code, verdict):
    got = sluice_try('filter "rcpts.lua"', PLAIN, "--to", to + "@example.org", "--json")
    assert (got.code, got.json["verdict"], got.json["stage"], got.json["filter"]) == (code, verdict, "rcpt", "rcpts")


def test_some_recipients_are_refused(sluice_try):
    got = sluice_try('filter "rcpts.lua"', PLAIN, "--to", "ann@example.org", "--to", "eve@example.org", "--to", "lost@example.org", "--json")
    assert [r["state"] for r in got.json["rcpts"]] == ["accepted", "refused", "left_out"] and got.code == 0


@pytest.mark.parametrize("word,code", [("reject", 0), ("5xx", 0), ("554", 0), ("451", 1), ("forwarded", 1), ("4xx", 1)])
def test_what_is_expected(sluice_try, word, code):
    assert sluice_try(judge("reject"), PLAIN, "--expect", word).code == code


def test_the_envelope_alone(sluice_try):
    got = sluice_try(ALL, "--from", "", "--to", "bob@example.org", "--json")
    assert got.code == 0 and got.json["source"] is None and got.json["octets_out"] is None
    assert {c["stage"] for c in got.json["calls"]} == {"rcpt", "reset", "disconnect"}
    assert sluice_try(ALL, "--from", "", "--to", "eve@example.org").code == 1


# ---- the message as it leaves

def test_octets_that_nobody_edits_leave_as_they_came(sluice_try, place):
    odd = open(ODD, "rb").read()
    got = sluice_try(judge("none"), ODD, "--out", "-", "-q")
    field, rest = got.raw.split(b"\r\nFrom: ", 1)
    assert b"From: " + rest == odd + b"\r\n" and field.startswith(b"Received: from client.example ([198.51.100.25])\r\n\tby mx.example.org (Sluice) with ESMTP id ")
    got = sluice_try(judge("none"), ODD, "--out", "out", "--json")
    out = (place / "out").read_bytes()
    assert hashlib.sha256(out).hexdigest() == got.json["sha256_out"] and len(out) == got.json["octets_out"]


def test_nothing_is_written_of_a_refused_message(sluice_try, place):
    assert sluice_try(judge("reject"), PLAIN, "--out", "out").code == 1 and not (place / "out").exists()
    assert sluice_try(judge("reject"), PLAIN, "--out", "-").raw == b""


def test_out_to_a_place_that_cannot_be_written(sluice_try):
    got = sluice_try(judge("none"), PLAIN, "--out", "/nonexistent/x")
    assert got.code == 2 and "/nonexistent/x" in got.err


NO_RECEIVED = """hostname "mx.example.org"
backend "b" { "127.0.0.1:10025" }
chain "c" { %s }
listen "x" { "127.0.0.1:2525", chain = "c", received = false }
"""


def test_line_ends_and_a_line_of_a_mailbox(sluice_try, place):
    conf = NO_RECEIVED % 'filter "judge.lua"'
    (place / "m").write_bytes(b"From a@b Mon Jan  5 10:00:00 2026\nFrom: a@b.test\nTo: c@d.test\n\none\n>From two\n")
    assert sluice_try(conf, "m", "--out", "-", "-q").raw == b"From: a@b.test\r\nTo: c@d.test\r\n\r\none\r\nFrom two\r\n"
    raw = b"From: a@b.test\r\nTo: c@d.test\r\n\r\none\ntwo\rthree"
    (place / "m").write_bytes(raw)
    assert sluice_try(conf, "m", "--out", "-", "-q", "--raw").raw == raw
    assert sluice_try(conf, "-", "--out", "-", "-q", "--raw", stdin=raw).raw == raw


@pytest.mark.parametrize("folder", sorted(glob.glob(os.path.join(ROOT, "tests/fuzz/corpus/header"))) + sorted(glob.glob(os.path.join(ROOT, "tests/fuzz/corpus/content"))))
def test_a_corpus_passes_octet_for_octet(sluice_try, folder):
    """What a parser met once: raw, through a chain that looks at all of it; refused, or as it came."""
    conf = NO_RECEIVED % 'filter "judge.lua"'
    files = sorted(glob.glob(os.path.join(folder, "*")))[:150]
    got = sluice_try(conf, *files, "--raw", "--json", "--from", "a@b.test", "--to", "c@d.test")
    assert got.code == 0 and len(got.json) == len(files)
    for one in got.json:
        assert one["verdict"] in ("forwarded", "reject"), one
        if one["verdict"] == "forwarded":
            assert one["sha256_out"] == one["source"]["sha256"], one["source"]


def test_edits_of_all_kinds(sluice_try):
    got = sluice_try(ALL, PLAIN, "--to", "add@example.org", "--json").json
    kinds = {(e["kind"], e["filter"], e["applied"]) for e in got["edits"]}
    assert kinds == {("field_add", "rcpts", True), ("field_add", "late", True), ("field_remove", "late", True), ("rcpt_add", "late", True),
                     ("from", "late", True), ("field_add", "watch", False), ("body", "body", True), ("field_set", "subject_tag", True)}
    assert next(e for e in got["edits"] if e["kind"] == "from")["before"] == "eve@evil.test"
    assert got["from"]["address"] == "bounces@example.org"
    assert [(r["address"], r["state"], r["by"]) for r in got["rcpts"]] == [("add@example.org", "accepted", "backend"), ("archive@example.org", "added", "late")]


def test_late_edits_are_seen_by_the_filters_behind(sluice_try, place):
    (place / "sees.lua").write_text('function on.headers(s, m) if m.headers:has "X-Late" then return reject("554 5.7.1 seen") end end')
    got = sluice_try('filter "late.lua", filter "sees.lua"', PLAIN, "--json").json
    assert (got["verdict"], got["stage"], got["filter"]) == ("reject", "headers", "sees")


def test_the_diff_of_a_body(sluice_try):
    out = sluice_try('filter "body.lua"', PLAIN).out
    assert "- second line\\r\\n\n" in out and "+ other line\\r\\n\n" in out and "Hello" not in out


def test_a_long_edit_is_cut_unless_diff_is_asked(sluice_try, place):
    (place / "long.lua").write_text('function on.headers(s, m) m.headers:set("X-Long", ("word "):rep(600)) end')
    assert "more lines; --diff shows them" in sluice_try('filter "long.lua"', PLAIN).out
    assert "more lines" not in sluice_try('filter "long.lua"', PLAIN, "--diff").out


# ---- who sends

def facts(sluice_try, *words):
    out = sluice_try('filter "facts.lua"', PLAIN, "--out", "-", "-q", *words).out
    return re.search(r"^X-Facts: (.*?)\r?$", out, re.M).group(1)


def test_who_sends_is_said(sluice_try):
    assert facts(sluice_try) == "198.51.100.25|client.example|nil|nil|nil|nil"
    assert facts(sluice_try, "--client", "[2001:db8::1]:99", "--helo", "h.test", "--rdns", "r.test", "--auth", "joe:LOGIN", "--tls=1.2",
                 "--fact", "tls.sni=mx.test") == "2001:db8::1|h.test|r.test|joe|TLSv1.2|mx.test"


def test_where_the_client_came_in_and_how_it_said_hello(sluice_try, place):
    (place / "s.lua").write_text('function on.rcpt(s) return reject("550 5.7.1 %s %s %s", tostring(s.local_ip), tostring(s.local_port), tostring(s.esmtp)) end')
    got = sluice_try('filter "s.lua"', PLAIN, "--fact", "server.ip=2001:DB8::1", "--fact", "server.port=587", "--fact", "helo.esmtp=0", "--json").json
    assert got["text"] == "2001:db8::1 587 false" and got["session"]["esmtp"] is False
    for bad in ("server.ip=x", "server.ip=192.0.2.1:25", "server.port=70000", "helo.esmtp=2"):
        assert sluice_try(ALL, PLAIN, "--fact", bad).code == 2


def test_as_received(sluice_try):
    got = sluice_try('filter "facts.lua"', PLAIN, "--as-received", "--now", "received", "--out", "-", "-q")
    assert "X-Facts: 192.0.2.66|mail.evil.test|host66.evil.test" in got.out
    assert "inside.example.org" not in got.out and "4jc" not in got.out and "Mon, 05 Jan 2026 10:00:0" in got.out
    one = sluice_try('filter "facts.lua"', PLAIN, "--as-received", "--json").json
    assert one["from"]["address"] == "eve@evil.test" and one["rcpts"][0]["address"] == "bob@example.org"


def test_parameters_reach_the_filters(sluice_try, place):
    (place / "p.lua").write_text('function on.rcpt(s, m, to) return reject("550 5.7.1 %s %s", m.params.size, to.params.notify) end')
    got = sluice_try('filter "p.lua"', PLAIN, "--mail-params", "BODY=8BITMIME SIZE=1000", "--to", "a@b.test", "--rcpt-params", "NOTIFY=NEVER", "--json")
    assert got.json["text"] == "1000 NEVER", got.err
    assert got.json["from"]["params"] == "BODY=8BITMIME SIZE=1000" and got.json["rcpts"][0]["params"] == "NOTIFY=NEVER"


def test_notes_of_what_the_front_would_have_said(sluice_try, place):
    conf = """backend "b" { "127.0.0.1:10025" }
tls "t" { certificate = "/nonexistent/c.pem" }
limits { size = 1024, header_size = 1024 }
user "no-such-user"
chain "c" { filter "judge.lua" }
listen "a" { ":587", tls = "t", auth = "require", require_tls = true, chain = "c" }
"""
    conf = conf.replace('"/nonexistent/c.pem"', 'credential "c.pem"')
    (place / "big").write_bytes(open(PLAIN, "rb").read() + 600 * b"x\n")
    got = sluice_try(conf, "big", "--json").json
    assert [re.sub(r" .*", "", n) for n in got["notes"]] == ["listen", "listen", "limits.size"]
    assert "note: listen \"a\" has auth = \"require\": without --auth the client hears 530" in sluice_try(conf, PLAIN).out
    assert len(sluice_try(conf, "big", "--json", "--auth", "joe", "--tls").json["notes"]) == 1


# ---- the world

def test_real_dns_is_asked(sluice_try):
    dns = Dns({("host.test", "a"): ["192.0.2.9"]})
    got = sluice_try('filter "names.lua"', PLAIN, "--json", more=dns.conf() + "\n").json
    wait = got["calls"][0]["waits"][0]
    assert "192.0.2.9" in got["text"] and dns.asked and wait["op"] == "dns" and wait["what"] == "a host.test" and wait["result"] == "ok"


@pytest.mark.parametrize("words", [["--dns", "off"], ["--offline"]])
def test_dns_off_times_out_at_once(sluice_try, words):
    dns = Dns({("host.test", "a"): ["192.0.2.9"]})
    got = sluice_try('filter "names.lua"', PLAIN, "--json", *words, more=dns.conf() + "\n").json
    assert "timeout" in got["text"] and not dns.asked and got["took"] < 2 * SLOW and got["offline"] == ("--offline" in words)


def test_a_filter_suspended_by_dns_meets_its_timeout(sluice_try):
    dns = Dns({("host.test", "a"): "drop"})
    got = sluice_try('filter "names.lua" { timeout = "300ms" }', PLAIN, "--json", more=dns.conf() + "\n").json
    call = got["calls"][0]
    assert got["verdict"] == "error" and call["error"] == "timeout" and call["wait"] > 0.2 and call["waits"][0]["result"] == "timeout"


def test_offline_skips_who_fails_by_it(sluice_try):
    chain = 'filter "probe" { "rcpt: dial 127.0.0.1:9 x", "rcpt: failed" }, filter "judge.lua"'
    more = 'module "%s"\n' % probe.built(SLUICE)
    assert sluice_try(chain, PLAIN, more=more).code == 75
    got = sluice_try(chain, PLAIN, "--offline", more=more)
    assert got.code == 0 and "skipped (offline)" in got.out and "1 call skipped (offline)" in got.out, got.out + got.err


@pytest.mark.parametrize("stage,text,code,verdict", [("rcpt", "550 5.1.1 no", 1, "reject"), ("rcpt", "451 4.3.0 x", 75, "defer"), ("mail", "550 no", 1, "reject"),
                                                     ("message", "554 5.7.1 spam", 1, "reject"), ("message", "250 2.0.0 queued as A1", 0, "forwarded")])
def test_what_the_backend_would_say(sluice_try, stage, text, code, verdict):
    got = sluice_try('filter "judge.lua"', PLAIN, "--json", "--reply", stage + "=" + text)
    assert (got.code, got.json["verdict"]) == (code, verdict) and got.json["text"].endswith(text.split()[-1])


def test_reply_hooks_hear_it(sluice_try):
    assert "reworded: queued as A1" in sluice_try('filter "facts.lua"', PLAIN, "--reply", "message=250 2.0.0 queued as A1").out


def test_the_clock_is_said(sluice_try, place):
    (place / "t.lua").write_text('function on.rcpt() return reject("550 5.7.1 %s", os.date("!%Y-%m-%d", os.time())) end')
    for text, day in [("2001-02-03T04:05:06Z", "2001-02-03"), ("981173106", "2001-02-03"), ("2001-02-03T23:30:00-02:00", "2001-02-04")]:
        got = sluice_try('filter "t.lua"', PLAIN, "--now", text, "--json")
        assert got.json["text"] == day, got.err


def test_what_a_call_waited_for_is_told(sluice_try, place):
    (place / "w.lua").write_text('local st = store()\nfunction on.rcpt() st:get("a") st:set("a", 1, "1h") st:get("b") dns.a("host.test") end\n'
                                 'function on.message() return discard(os.date("!%Y")) end')
    dns = Dns({("host.test", "a"): ["192.0.2.9"]})
    got = sluice_try('filter "w.lua"', PLAIN, "-v", more=dns.conf() + "\n")
    assert re.search(r"^rcpt +w +continue .*   dns 1; store get 2, set 1", got.out, re.M) and "a host.test: ok" in got.out, got.out
    assert got.code == 3


# ---- what is tried

def test_one_filter_of_the_chain(sluice_try):
    got = sluice_try(ALL, PLAIN, "--filter", "subject_tag", "--json").json
    assert {c["filter"] for c in got["calls"]} == {"subject_tag"}


def test_a_filter_is_left_out_and_another_enforced(sluice_try):
    assert {c["filter"] for c in sluice_try(ALL, PLAIN, "--skip", "late", "--skip", "rcpts", "--json").json["calls"]} == {"watch", "body", "subject_tag"}
    assert sluice_try(ALL, PLAIN).code == 0
    got = sluice_try(ALL, PLAIN, "--enforce", "--json")
    assert got.code == 1 and got.json["filter"] == "watch"


@pytest.mark.parametrize("value,seen", [("verdict=reject", 1), ('verdict="reject"', 1), ("verdict=defer", 75)])
def test_a_script_needs_no_configuration(sluice_try, value, seen):
    got = sluice_try(None, "--filter", "judge.lua", "--option", value, PLAIN)
    assert got.code == seen, got.out + got.err
    assert sluice_try(ALL, "--filter", "judge.lua", "--option", value, PLAIN).code == seen


def test_options_are_values_of_lua_else_texts(sluice_try, place):
    (place / "o.lua").write_text('local opt = options { n = 1, list = list "text", t = "x", b = false }\n'
                                 'function on.rcpt() return reject("550 5.7.1 %d %s %s %s", opt.n, table.concat(opt.list, "+"), opt.t, tostring(opt.b)) end')
    got = sluice_try(None, "--filter", "o.lua", "--option", "n=7", "--option", 'list={"a","b"}', "--option", 'say "t"', PLAIN)
    assert got.code == 2 and "NAME=VALUE" in got.err
    got = sluice_try(None, "--filter", "o.lua", "--option", "n=7", "--option", 'list={"a","b"}', "--option", 't=os.exit() \\ "x"', "--option", "b=true",
                     PLAIN, "--json")
    assert got.json["text"] == '7 a+b os.exit() \\ "x" true', got.err
    got = sluice_try(None, "--filter", "o.lua", "--option", "m=7", PLAIN)
    assert got.code == 2 and "unknown option" in got.err


SHIPPED = {
    "clean_headers": ([], "forwarded"), "dnsbl": (["--dns", "off"], "forwarded"), "greylist": (["--rdns", "none"], "defer"), "ratelimit": ([], "forwarded"),
    "recipients": (["--option", 'allow={"@example.org"}', "--option", 'domains={"example.org"}'], "forwarded"), "score": ([], "forwarded"),
    "subject_tag": ([], "forwarded"),
}


def test_each_shipped_script_is_tried_here():
    assert set(SHIPPED) == {os.path.basename(p)[:-4] for p in glob.glob(os.path.join(ROOT, "scripts/filters/*.lua"))}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_script(sluice_try, name):
    words, verdict = SHIPPED[name]
    got = sluice_try(None, "--filter", name + ".lua", *words, PLAIN, "--json")
    assert got.code != 2, got.err
    assert got.json["verdict"] == verdict and not any(c["error"] for c in got.json["calls"]), got.out


# ---- many messages

def test_a_folder_in_order_and_a_summary(sluice_try, place):
    shutil.copytree(os.path.join(HERE, "mails"), place / "mails")
    (place / "mails" / "note.txt").write_text("no message")
    got = sluice_try(judge("reject"), "mails", "--stable")
    golden("many.txt", got.out)
    assert got.code == 0
    lines = sluice_try(judge("none"), "mails", "--json")
    assert [one["source"]["name"] for one in lines.json] == ["mails/odd.eml", "mails/plain.eml", "mails/second.eml"] and "3 messages in" in lines.err


def test_a_maildir_and_a_mailbox(sluice_try, place):
    for sub in ("cur", "new", "tmp"):
        os.makedirs(place / "box" / sub)
    shutil.copy(PLAIN, place / "box" / "cur" / "1:2,S")
    shutil.copy(ODD, place / "box" / "new" / "2")
    (place / "box" / "tmp" / "3").write_text("half")
    assert [one["source"]["name"] for one in sluice_try(judge("none"), "box", "--json").json] == ["box/cur/1:2,S", "box/new/2"]
    mail = open(PLAIN).read()
    mbox = "".join("From a@b Mon Jan  5 10:00:00 2026\n%s\n>From the start\n\nFrom here no message begins\n\n" % mail for _ in range(3))
    (place / "mbox").write_text(mbox)
    got = sluice_try(judge("none"), "mbox", "--json").json
    assert [one["source"]["index"] for one in got] == [1, 2, 3] and len({one["source"]["sha256"] for one in got}) == 1
    assert got[0]["source"]["octets"] == len((mail + "\nFrom the start\n\nFrom here no message begins\n").replace("\n", "\r\n"))


def test_all_share_one_set_of_stores(sluice_try, place):
    (place / "c.lua").write_text('local st = store()\nfunction on.rcpt() if st:incr("n", 1, "1h") > 2 then return defer("451 4.7.1 often") end end')
    got = sluice_try('filter "c.lua"', PLAIN, PLAIN, PLAIN, "--json").json
    assert [one["verdict"] for one in got] == ["forwarded", "forwarded", "defer"]


def test_those_that_differ_from_what_is_expected_are_named(sluice_try, place):
    shutil.copytree(os.path.join(HERE, "mails"), place / "mails")
    got = sluice_try(judge("reject"), "mails", "--expect", "forwarded")
    assert got.code == 1 and "mails/odd.eml: reject 554, expected forwarded" in got.err and got.err.count("expected") == 3
    assert sluice_try(judge("reject"), "mails", "--expect", "reject").code == 0


# ---- mistakes

@pytest.mark.parametrize("words,what", [
    (["--clinet", "1"], "did you mean --client"), (["--client", "x"], "expected an IP address"), (["--client", "192.0.2.1:0"], "expected an IP address"),
    (["--to"], "needs a value"), (["--tls=9"], "a version"), (["--fact", "client.ip=1"], "--fact"), (["--fact", "tls.sni=x"], "say --tls"),
    (["--reply", "data=250 x"], "--reply"), (["--reply", "rcpt=no"], "--reply"), (["--expect", "maybe"], "--expect"), (["--now", "soon"], "--now"),
    (["--now", "received"], "--as-received"), (["--dns", "zone.json"], "No such file"), (["--real-stores"], "not there yet"),
    (["--store", "x"], "No such file"), (["--option", "a=1"], "belongs to a script"), (["--filter", "subject_tga"], "did you mean \"subject_tag\""),
    (["--skip", "x"], "has no filter \"x\""), (["--listen", "y"], "there is no listen or milter \"y\""), (["--rcpt-params", "NOTIFY=NEVER"], "a --to before it"),
    (["--mail-params", "SIZE=x"], "no parameters of MAIL"), (["--from", "a b"], "no sender address"), (["--to", "@b"], "no recipient address"),
    (["--auth", "joe:"], "USER or USER:METHOD"), (["--rdns", ""], "--rdns"), (["--json", "--out", "-"], "standard output"),
    (["/nonexistent.eml"], "No such file"), (["--out", "x", PLAIN], "for one message"),
])
def test_mistakes_are_told_and_exit_2(sluice_try, words, what):
    got = sluice_try(ALL, PLAIN, *words)
    assert got.code == 2 and what in got.err, got.err


def test_what_is_missing_is_told(sluice_try, place):
    (place / "none.eml").write_text("Subject: x\n\nbody\n")
    got = sluice_try(ALL, "none.eml")
    assert got.code == 2 and "tells no recipient" in got.err
    assert "--from and --to" in sluice_try(ALL).err
    assert sluice_try('nonsense "x"', PLAIN).code == 2
    assert "sluice try" in sluice_try(None, "--help").out


def test_an_empty_message_is_one(sluice_try, place):
    (place / "empty").write_text("")
    got = sluice_try(judge("none"), "empty", "--to", "a@b.test", "--json")
    assert got.code == 0 and got.json["octets_in"] == 0


def test_every_option_is_in_the_page_and_the_manual(sluice_try):
    options = set(re.findall(r"--[a-z-]+", sluice_try(None, "--help").out)) - {"--config"}
    assert len(options) > 25
    for path in ("docs/try.md", "contrib/man/sluice.8"):
        text = open(os.path.join(ROOT, path)).read().replace("\\-", "-")
        assert not [o for o in options if o not in text], path


# ---- large ones

@pytest.mark.parametrize("chain", ['filter "body.lua"', 'filter "late.lua", filter "body.lua"', 'filter "judge.lua"'])
def test_a_large_message(sluice_try, place, chain):
    body = b"".join(b"line %d with words\r\n" % i for i in range(150000)) + b"second\r\n"
    (place / "large").write_bytes(b"From: a@b.test\r\nTo: add@c.test\r\n\r\n" + body)
    got = sluice_try(chain, "large", "--out", "out", "--json").json
    out = (place / "out").read_bytes().split(b"\r\n\r\n", 1)[1]
    assert got["verdict"] == "forwarded" and out == (body.replace(b"second", b"other") if "body.lua" in chain else body)


def test_a_quarantine_that_comes_too_late_for_a_backend_does_so_here(sluice_try, place):
    (place / "large").write_bytes(b"From: a@b.test\r\nTo: c@d.test\r\n\r\n" + b"x" * 70 * 1000 + 20000 * b"0123456789abcdef\r\n")
    got = sluice_try(judge("quarantine"), "large", "--json")
    assert (got.json["verdict"], got.json["code"]) == ("defer", 451) and got.code == 75


# ---- the same as the gateway

def test_a_message_leaves_as_through_the_gateway(sluice_try):
    """One chain with late and body edits: try's octets are those that a backend got, but for our Received field."""
    scripts = {k: v for k, v in SCRIPTS.items() if k in ("rcpts.lua", "late.lua", "body.lua")}
    chain = 'filter "rcpts.lua", filter "late.lua", filter "body.lua", filter "subject_tag.lua"'
    for path in (PLAIN, ODD):
        octets = open(path, "rb").read()
        octets = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
        with House(chain, scripts) as house:
            house.send(octets, to=("add@example.org",), sender="eve@evil.test")
            kept = house.mails()[0].replace(b"\r\n", b"\n")
        mine = sluice_try(chain, path, "--to", "add@example.org", "--from", "eve@evil.test", "--out", "-", "-q").raw.replace(b"\r\n", b"\n")
        assert mine.split(b"+0000\n", 1)[1].rstrip(b"\n") == kept.split(b"+0000\n", 1)[1].rstrip(b"\n")
