"""What is wrong with a script is said at load, with file and line."""
import os

import pytest

from house import SCRIPTS, check

HOOK = "function on.rcpt(s, m, to) end\n"


@pytest.mark.parametrize("script, said", [
    ("function on.recpt(s) end", 'x.lua:1: error: filter "x": there is no hook "recpt" (did you mean "rcpt"?)'),
    ("\nfunction on.chunk(s) end", 'x.lua:2: error: filter "x": there is no hook "chunk" (did you mean "body"?)'),
    (HOOK + HOOK, 'x.lua:2: error: filter "x": on.rcpt is defined twice'),
    ("function on.part(s, m, p) end", "x.lua:1: error: filter \"x\": on.part comes in a later version"),
    (HOOK + "function on.mail(s)\n  return defr 'x'\nend", 'x.lua:3: error: filter "x": unknown name "defr" (did you mean "defer"?)'),
    (HOOK + "function on.mail(s)\n  n = 1\nend", 'x.lua:3: error: filter "x": "n" is global: say "local n" first'),
    (HOOK + "local x = = 1", "x.lua:2: error: filter \"x\": unexpected symbol near '='"),
    (HOOK + 'local opt = options { timeout = "1s" }', 'x.lua:2: error: filter "x": option "timeout" is the gateway\'s own'),
    (HOOK + "local opt = options { x = {} }", 'x.lua:2: error: filter "x": option "x": of an empty table the type is not known'),
    (HOOK + "local t = table_file '/no/such/file'", "/no/such/file"),
    (HOOK + "reject 'x'", "x.lua:2: error: filter \"x\": reject() can only be used inside a hook"),
    (HOOK + "sleep(1)", "x.lua:2: error: filter \"x\": sleep can only be used inside a hook"),
    ("local x = 1", "the script defines no hook"),
    (HOOK + "edits_late()", "edits_late() and reads_body() are for on.message"),
    (HOOK + "while true do end", "x.lua:2: error: filter \"x\": the script used more than 2000 ms of CPU"),
    (HOOK + "local x = ('x'):rep(1e9)", "x.lua:2: error: filter \"x\": resulting string too large"),
    (HOOK + "error { 1 }", "the script raised an error that is no text (a table)"),
    (HOOK + "local c = cidr { '10.0.0.1/8' }", 'did you mean "10.0.0.0/8"?'),
    (HOOK + "local r = re '('", "x.lua:2: error: filter \"x\": re: "),
    ("\x1bLua", "x.lua:1: error"),
])
def test_a_mistake_is_told_with_its_place(script, said):
    code, out = check(script)
    assert code == 2 and said in out, out
    assert out.count("error:") == 1, out


@pytest.mark.parametrize("declared, given, said", [
    ("limit = 5", "{ limt = 6 }", 'unknown option "limt" (did you mean "limit"?)'),
    ("limit = 5", '{ limit = "x" }', "expected a number"),
    ('wait = duration "1h"', '{ wait = "soon" }', "expected a duration"),
    ('most = size "1M"', '{ most = "2 apples" }', "expected a size"),
    ('how = one_of { "tag", "reject" }', '{ how = "drop" }', 'option "how": "drop" is none of "tag" or "reject"'),
    ('who = required "text"', "{}", 'option "who" is missing, a text'),
    ('who = required "txet"', "{}", 'unknown type "txet" (did you mean "text"?)'),
    ('t = optional "table"', '{ t = "/no/such/file" }', "/no/such/file"),
    ("x = 1", "{ memory = 10 }", "memory: 256K to 4G"),
])
def test_options_are_checked_against_the_configuration(declared, given, said):
    code, out = check(f"local opt = options {{ {declared} }}\n" + HOOK, given)
    assert code == 2 and said in out, out


SAYS = """
local opt = options { action = one_of { "reject", "defer", "tag" }, text = "5.7.1 No, %s, %d%% of %.1f" }
function on.rcpt(s, m, to) return act(opt, to, 5, 1.5) end"""


@pytest.mark.parametrize("given, said", [
    ('text = "4.7.1 no %s"', '"4.7.1 no %s" is no 5xx reply, as the action reject takes'),
    ('text = "550 4.7.1 no %s"', "is no 5xx reply"),
    ('action = "defer", text = "554 no"', '"554 no" is no 4xx reply, as the action defer takes'),
    ('text = "no %s 100%"', "invalid conversion '%' to 'format'"),
    ('text = "no %y"', "invalid conversion"),
    ('text = "no %d %d"', "number expected, got string"),
    ('text = "no %s %s %s %s"', "no value"),
])
def test_a_text_that_does_not_fit_is_told_at_load(given, said):
    code, out = check(SAYS, f"{{\n{given} }}")
    assert code == 2 and said in out and 'option "text": ' in out and out.count("error:") == 1, out
    assert out.startswith("sluice.lua:5: "), out


@pytest.mark.parametrize("given", [
    'text = "no"', 'text = "550 5.7.2 no %s at 100%%"', 'action = "defer", text = "451 4.7.2 %s %s %s"', 'action = "tag", text = "4 of %s"',
    'action = "defer"', 'text = "%q"'])
def test_a_text_that_fits_is_taken(given):
    code, out = check(SAYS, f"{{ {given} }}")
    assert code == 0, out


def test_a_text_without_an_action_keeps_the_class_of_its_default():
    script = 'local opt = options { text = "451 4.7.1 in %d s" }\nfunction on.rcpt(s, m, to) return defer(opt.text, 5) end'
    assert check(script, '{ text = "450 wait %s s" }')[0] == 0
    code, out = check(script, '{ text = "550 never" }')
    assert code == 2 and '"550 never" is no 4xx reply, as this option takes' in out, out


def test_options_that_are_right():
    code, out = check("""
local opt = options { a = 1, b = "x", c = true, d = duration "1h", e = size "1M", f = { "x" }, g = { x = 1 }, h = list "number",
  i = map "text", j = one_of { "p", "q" }, k = optional "table", l = cidr { "10.0.0.0/8" }, m = required(list "text"),
  n = table_file "/no/such/file", o = optional(table_file), p = required(duration) }
function on.rcpt(s, m, to) return reject("%s", opt.a + opt.d) end
""", '{ a = 2, d = "2h", f = { "y", "z" }, h = { 1, 2 }, i = { x = "y" }, j = "q", m = { "x" }, p = "1m", k = { "a" } }')
    assert code == 0, out
    assert "/no/such/file is not there: the table is empty" in out


TOLD = [
    ("function on.rcpt(s, m, to)\n  return s.hello and accept()\nend", 'x.lua:2: error: filter "x": a session has no "hello" (did you mean "helo"?)'),
    ("function on.rcpt(s, m, to)\n  local x = to.domian\n  log.info(x)\nend", '2: error: filter "x": an address has no "domian" (did you mean "domain"?)'),
    ("function on.mail(s, m, from)\n  if m.form then return end\nend", 'a message has no "form" (did you mean "from"?)'),
    ("function on.headers(s, m)\n  local h = m.headers\n  for i = 1, 2 do\n    h:ad('X', 'y')\n  end\nend", 'x.lua:4: error: filter "x": a headers has no "ad" (did you mean "add"?)'),
    ("function on.headers(s, m)\n  local h = m.headers\n  local f = function() return h:gett 'X' end\n  f()\nend", 'x.lua:3: error: filter "x": a headers has no "gett"'),
    ("function on.connect(s)\n  if s.ip:privat() then return end\nend", 'an ip has no "privat" (did you mean "private"?)'),
    ("function on.connect(s)\n  if s.ip:private() then return end\nend", '"private" of an ip is a field: write .private, without a call'),
    ("function on.connect(s)\n  s.seen = 1\nend", "a session cannot be written to: what a script remembers goes in s.vars or m.vars"),
    ("function on.connect(s)\n  if s.auth.usr == 'x' then return end\nend", 's.auth has no "usr" (did you mean "user"?)'),
    ("function on.reply(s, m, r)\n  if r.stag == 'rcpt' then return end\nend", 'a reply has no "stag" (did you mean "stage"?)'),
    ("function on.rcpt(s, m, to)\n  if to.ext == 'x' then\n    reject '550 5.1.1 no'\n  end\nend",
     'x.lua:3: error: filter "x": a verdict is made and not returned: write "return" in front of reject'),
    ("local opt = options { action = one_of { 'reject' }, text = 'x' }\nfunction on.rcpt(s, m, to) act(opt, to) end", 'write "return" in front of act'),
    ("function on.rcpt(s, m, to) return reject '450 4.2.0 later' end", 'reject takes a 5xx reply, not "450 4.2.0 later": did you mean defer?'),
    ("function on.rcpt(s, m, to) return defer('550 %s', to) end", 'defer takes a 4xx reply, not "550 %s": did you mean reject?'),
    ("function on.rcpt(s, m, to) local v = drop '450 x' return v end", "drop takes 421, 521 or 554, not 450"),
    ("function on.message(s, m)\n  if m:body{}:find 'x' then return end\nend", "m:body is for on.message of a script that says reads_body() in its main chunk"),
    ("reads_body()\nfunction on.headers(s, m)\n  if m:body{}:find 'x' then return end\nend\nfunction on.message() end", "x.lua:3: error: filter \"x\": m:body is for on.message"),
    ("function on.message(s, m) m:set_body 'x' end", "says edits_late() in its main chunk"),
    ("function on.body(s, m, chunk) chunk:drop() end", "says edits_body() in its main chunk"),
    ("function on.recipient(s) end", 'there is no hook "recipient" (did you mean "rcpt"?)'),
    ("function on.zzzzzzzz(s) end", 'there is no hook "zzzzzzzz": there are connect, tls, helo, auth, mail, rcpt, data, headers, body, message, reply'),
    ("function on.part(s, m, part) end", "on.part comes in a later version"),
    ("function on.rcpt(s) metrics.count('x') end", "metrics come in a later version"),
    ("parts { content = '1K' }\nfunction on.rcpt(s) end", "parts{...} comes in a later version"),
    ("function on.rcpt(s) return http.get 'x' and redis 'y' end", "http comes in a later version"),
]


@pytest.mark.parametrize("script, said", TOLD, ids=range(len(TOLD)))
def test_what_the_source_shows_is_told_at_load(script, said):
    code, out = check(script)
    assert code == 2 and said in out and out.count("error:") >= 1, out


def test_all_that_the_source_shows_is_told_in_order():
    code, out = check("""function on.rcpt(s, m, to)
  reject "450 x"
  local a, b = s.hello, m.fron
  nothing(a, b)
end""")
    lines = [line.split(": error")[0] for line in out.splitlines() if "error:" in line]
    assert code == 2 and lines == ["x.lua:2", "x.lua:2", "x.lua:3", "x.lua:3", "x.lua:4"], out


FINE = [
    "function on.rcpt(s, m, to) local s = { hello = 1 } return s.hello and accept() end",
    "function on.rcpt(s, m, to) if to.domain == 'x' then m = { form = 1 } end return m.form and accept() end",
    "function on.rcpt(s, m, to) do local h = m.headers h:add('X', 'y') end local h = { ad = print } h.ad(1) end",
    "function on.rcpt(s, m, to) local v if to.ext == '' then v = reject '550 x' else v = defer '450 x' end return v end",
    "function on.rcpt(s, m, to) local x = to.ext ~= '' and s or { hello = 1 } return x.hello end",
    "function on.rcpt(s, m, to) for _, s in ipairs { { hello = 1 } } do m.vars.x = s.hello end end",
    "function on.rcpt(s, m, to) local text = to.ext == '' and '550 x' or '450 x' return pcall(reject, text) and nil end",
    "edits_late()\nfunction on.message(s, m) m:set_body(m:body { max = '1K' } or '') end",
    "local function f(s) return s.anything end\nfunction on.rcpt(s, m, to) return f { anything = nil } end",
    "function on.rcpt(s, m, to) return (separate(to.domain)) end",
    "function on.rcpt(s, m, to) local ok = pcall(function() return s.helo end) m.tags.x = s.tls and s.tls.version m.vars.y = ok end",
    "function on.rcpt(s, m, ...) local to = ... return to.domian end",
    "function on.rcpt(s) while not s.auth do s.vars.n = 1 if s.vars.n then break end end goto done ::done:: return s.tls and s.tls.sni and nil end",
]


@pytest.mark.parametrize("script", FINE, ids=range(len(FINE)))
def test_what_is_not_certain_is_not_told(script):
    code, out = check(script)
    assert code == 0, out


def test_all_wrong_entries_of_a_list_and_a_table_are_told(tmp_path):
    script = 'local opt = options { l = list "number", n = cidr {}, t = optional "table", m = map "number" }\n' + HOOK
    table = tmp_path / "table"
    table.write_text("10.1.1.1/8 OK\ngood OK\n 10.2.2.2/8\n11.1.1.1/8 x\n\n12.1.1.1/8\n")
    code, out = check(script, '{ l = { 1, "a", 2, "b" }, n = { "10.0.0.1/8", "10.0.0.0/8", "x" }, m = { a = "x", b = 1, c = "y" }, t = "%s" }' % table)
    told = [line for line in out.splitlines() if "error:" in line]
    assert code == 2 and len(told) == 9, out
    for said in ('text "a"', 'text "b"', '"10.0.0.1/8"', '"x": ', '"a": expected', '"c": expected', "table:1: ", "table:4: ", "table:6: "):
        assert any(said in line for line in told), (said, out)


def test_a_zone_whose_codes_are_malformed_is_told_at_load():
    with open(os.path.join(SCRIPTS, "dnsbl.lua")) as f:
        dnsbl = f.read()
    for zones in ('["a.example"] = 1, ["b.example=127.0.0.[2..300]"] = 2', '["b.example=127.0.0"] = 2', '["b.example="] = 2', '["=127.0.0.2"] = 2'):
        code, out = check(dnsbl, "{ zones = { %s } }" % zones)
        assert code == 2 and out.startswith("sluice.lua:4: ") and 'option "zones": "' in out and out.count("error:") == 1, out
    code, out = check("local opt = options { zones = list 'text' }\n" + HOOK, '{ zones = { "a.example", "x=y" } }')
    assert code == 2 and 'option "zones": "x=y": a zone is a domain' in out, out
    assert check(dnsbl, '{ zones = { ["a.example=127.0.[0;1].[2..9]"] = 5 } }')[0] == 0


@pytest.mark.parametrize("front", ["\ufeff", "#!/usr/bin/lua\n", "\ufeff-- a comment\n"])
def test_what_editors_put_in_front_of_a_script_is_no_mistake(front):
    code, out = check(front + HOOK)
    assert code == 0, out
