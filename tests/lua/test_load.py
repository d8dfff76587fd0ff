"""What is wrong with a script is said at load, with file and line."""
import pytest

from house import check

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
