"""A hostile script costs its own call, within its limits, and nobody else's."""
import re
import smtplib
import threading
import time

import pytest

from gateway import SLOW
from house import cases, eventually, House, text

ESCAPES = {
    "io": "local k = 'io' return pcall(function() return _ENV[k] end)",
    "load": "local k = 'load' return pcall(function() return _ENV[k] end)",
    "require": "local k = 'require' return pcall(function() return _ENV[k] end)",
    "debug": "local k = 'debug' return pcall(function() return _ENV[k] end)",
    "coroutine": "local k = 'coroutine' return pcall(function() return _ENV[k] end)",
    "execute": "return os.execute == nil and os.getenv == nil and os.remove == nil and os.exit == nil and false",
    "dump": "return string.dump ~= nil or ('').dump ~= nil",
    "stringmeta": "return getmetatable('') ~= nil",
    "objmeta": "return getmetatable(s) ~= nil or getmetatable(m) ~= nil or getmetatable(on) ~= false",
    "envmeta": "return pcall(setmetatable, _ENV, nil)",
    "gc": "return pcall(setmetatable, {}, { __gc = function() end })",
    "fakemethod": "return pcall(s.who, m)",
    "fakefields": "return pcall(m.headers.get, s, 'x')",
    "writes": "return pcall(function() s.x = 1 end)",
    "writem": "return pcall(function() m.from = 1 end)",
    "global": "return pcall(rawset(_ENV, 'setmetatable', setmetatable).rawget, nil)",
    "wide": "return pcall(table.unpack, {}, 1, 1e8)",
}


def test_the_sandbox_has_no_way_out():
    with House('filter "x.lua"', {"x.lua": cases(ESCAPES)}) as house:
        for name, reply in zip(ESCAPES, house.ask(*ESCAPES)):
            assert reply.startswith("550 5.7.1 result=false"), (name, reply)


HANGS = {
    "plain": "while true do end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "xpcall(function() while true do end end, function() while true do end end)",
    "xpcallerr": "xpcall(error, function() while true do end end)",
    "close": "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
    "closeloop": "while true do local x <close> = setmetatable({}, { __close = function() while true do end end }) end",
    "tostring": "return tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    "index": "return setmetatable({}, { __index = function() while true do end end }).x",
    "rep": "while true do local x = ('x'):rep(4000000) end",
    "find": "return ('a'):rep(40):find(('a?'):rep(40) .. ('a'):rep(41))",
    "gsub": "return ('a'):rep(400000):gsub('.-b', '')",
    "gmatch": "for _ in ('a'):rep(400000):gmatch('.-b') do end",
    "gsubcall": "return ('aaaa'):gsub('a', function() while true do end end)",
    "balance": "return ('('):rep(300000):find('%b()')",
    "sort": "return table.sort({ 3, 2, 1 }, function() while true do end end)",
    "sortlie": "local t = {} for i = 1, 100000 do t[i] = i end while true do table.sort(t, function() return true end) end",
    "hugelen": "local t = setmetatable({}, { __len = function() return 1 << 60 end }) while true do table.insert(t, 1) end",
    "move": "while true do table.move({}, 1, 1e6, 2) end",
    "reverse": "local x = ('x'):rep(4000000) while true do x = x:reverse() end",
    "concat": "local t = {} for i = 1, 1000 do t[i] = 'x' end while true do table.concat(t) end",
    "re": "while true do re '(a+)+$':gsub(('a'):rep(25) .. 'b', '') end",
    "possessive": "return re '(?:\\\\w|-)*+[:;]':test(('a'):rep(200000))",
    "atomic": "return re '(?>\\\\w+)[:;]':gsub(('a'):rep(200000), '')",
    "lookahead": "return re '^(?:(?=\\\\w*+)\\\\w)*+[xy]':test(('a'):rep(200000))",
    "date": "local f = ('%p'):rep(1000000) while true do os.date(f) end",
    "set": "return ('a'):rep(100000):find('[' .. ('b'):rep(1000000) .. ']')",
    "setplus": "return ('a'):rep(100000):find('[^' .. ('b'):rep(1000000) .. ']+c')",
    "frontier": "return ('a'):rep(100000):find('%f[' .. ('b'):rep(1000000) .. ']')",
    "recursion": "local function f() return pcall(f) end while true do f() end",
    "verdict": "while true do local v = reject 'x' end",
    "headers": "while true do m.headers:add('X-Many', 'x') end",
    "select": "while true do select('#', table.unpack({}, 1, 5000)) end",
    "store": "local st = store() while true do pcall(st.get, st, '') end",
    "error": "while true do pcall(error, {}) end",
    "metaloop": "local t = {} t.__index = setmetatable(t, t) while true do pcall(function() return t.x end) end",
}


def kill_time(house, name):
    started = time.monotonic()
    replies = house.ask("fine", "good", name)
    assert replies[0].startswith("250") and replies[1].startswith("250"), replies
    return replies[2], time.monotonic() - started


def test_endless_scripts_are_stopped_while_others_are_served():
    with House('filter "x.lua"', {"x.lua": cases(HANGS)}, more="limits { junk = 0 }") as house:
        slowest, stop = [0.0], threading.Event()

        def another():
            with house.client() as c:
                while not stop.is_set():
                    started = time.monotonic()
                    assert c.noop()[0] == 250
                    slowest[0] = max(slowest[0], time.monotonic() - started)
                    c.rset()
                    time.sleep(0.005)

        thread = threading.Thread(target=another)
        thread.start()
        for name in HANGS:
            reply, took = kill_time(house, name)
            assert reply.startswith("451") or reply.startswith("550"), (name, reply)
            assert took < 0.4 * SLOW, (name, took)
        stop.set()
        thread.join()
        assert slowest[0] < 0.4 * SLOW
        log = house.log()
        assert "x.lua:3: the script used more than 100 ms of CPU (option cpu): 1" in log
        told = re.findall(r'(.{12})the script used more than 100 ms of CPU', log)  # in patterns and other loops in C too
        assert told and not [t for t in told if not re.search(r"x\.lua:\d+: $", t)]


BOMBS = {
    "string": "local x = 'x' while true do x = x .. x end",
    "table": "local t = {} while true do t[#t + 1] = {} end",
    "closures": "local t = {} while true do t[#t + 1] = function() return t end end",
    "pcalls": "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(100000) end) end",
    "concat": "local t = {} for i = 1, 1e6 do t[i] = 'xxxxxxxxxxxxxxxxxxx' end return #table.concat(t)",
    "format": "return string.format(('%99d'):rep(100000), 1)",
    "deep": "local function f(...) return f(1, ...) end return f()",
    "depth": "local function f() return f() + 1 end return f()",
    "vars": "local v = s.vars for i = 1, 1e7 do v[i] = 'x' .. i end",
    "gsub": "return #(('x'):rep(1000000):gsub('x', 'yyyyyyyyyyyyyyyyyyyyyyyyy'))",
    "pack": "local t = {} while true do t[#t + 1] = string.pack('s', ('x'):rep(1000000)) end",
}


@pytest.mark.parametrize("memory", ["1M", "16M"])
def test_memory_bombs_stay_under_the_limit(memory):
    with House(f'filter "x.lua" {{ memory = "{memory}", cpu = "2s" }}', {"x.lua": cases(BOMBS)}) as house:
        house.ask("fine")
        before = house.gateway.rss()
        for _ in range(2):
            for name in BOMBS:
                replies = house.ask("fine", "good", "well", name)
                assert [r[:3] for r in replies[:3]] == ["250"] * 3, (name, replies)
                assert replies[3][:3] in ("451", "550"), (name, replies)
        if SLOW == 1:
            assert house.gateway.rss() - before < 100 * 1024
        assert "of memory (option memory)" in house.log()


OUTSIDE = {  # memory that is the gateway's, not Lua's
    "base64": "local x = ('x'):rep(100000) while true do base64.decode(base64.encode(x)) end",
    "parse": "local x = ('x'):rep(60) .. '@example.org' while true do address.parse(x) address.list(x) end",
    "network": "while true do s.ip:network(24, 64) end",
    "log": "while true do log.info(('x'):rep(1900)) end",
    "from": "local x = ('x'):rep(60) .. '@example.org' while true do m:set_from(x) end",
    "separate": "local n = 0 while true do n = n + 1 local v = separate('k' .. n % 2) end",
    "logwait": "while true do log.info(('x'):rep(1900)) sleep(0) end",
    "bl": "while true do dns.bl('', {}) end",
}
KEPT = ("from", "separate", "bl")


def test_memory_outside_of_lua_counts():
    chain = 'filter "x.lua" { memory = "1M", cpu = "400ms", timeout = "3s" }'
    with House(chain, {"x.lua": cases(OUTSIDE)}, more='log { level = "info" }') as house:
        house.ask("fine")
        for name in OUTSIDE:
            before = house.gateway.rss()
            most, stop = [before], threading.Event()

            def watch():
                while not stop.is_set():
                    most[0] = max(most[0], house.gateway.rss())
                    time.sleep(0.01)

            thread = threading.Thread(target=watch)
            thread.start()
            told = len(house.log())
            reply = house.ask("fine", "good", "well", name)[3]
            stop.set()
            thread.join()
            assert reply.startswith("451"), (name, reply)
            if name in KEPT:
                eventually(lambda: "of memory (option memory)" in house.log()[told:])
            if SLOW == 1:
                assert most[0] - before < 16 * 1024, (name, most[0] - before)


def test_a_filter_writes_no_more_into_the_header_section_than_a_header_section_may_have():
    script = """
function on.headers(s, m)
  local h, subject, done, why = m.headers, m.headers:get "Subject", true, nil
  while subject ~= "some" and done do done, why = h[subject](h, "X-Many", ("x"):rep(50)) end
  if subject ~= "some" then log.info(subject .. " ends: " .. tostring(done) .. " " .. tostring(why)) end
  if m.headers:get "Subject" == "some" then for i = 1, 100 do m.headers:add("X-Many", ("x"):rep(50)) end end
end"""
    with House('filter "x.lua" { cpu = "2s", memory = "64M" }', {"x.lua": script}, more='limits { header_size = "16K" }') as house:
        house.send(b"Subject: some\r\n\r\nx\r\n")
        for subject in ("add", "set", "prepend", "append"):  # the edit is not made, the script goes on, the message passes
            house.send(b"Subject: " + subject.encode() + b"\r\nX-Many: one\r\n\r\nx\r\n")
            eventually(lambda: subject + " ends: false this filter has written more than limits.header_size" in house.log())
        house.send(b"Subject: some\r\n\r\nx\r\n")
        assert len(house.mails()) == 6


def test_a_script_that_keeps_too_much_in_variables_of_its_own_is_made_anew():
    script = """
local kept = {}
function on.mail(s, m) s.vars.began = #kept end
function on.rcpt(s, m, to)
  if to.localpart == "bomb" then while true do kept[#kept + 1] = ("x"):rep(10000) end end
  if to.localpart == "wait" then sleep "2s" end
  return reject("550 5.7.1 result=%d %d", s.vars.began, #kept)
end"""
    with House('filter "x.lua" { memory = "1M", cpu = "2s" }', {"x.lua": script}) as house:
        with house.client() as old, house.client() as waits:
            for c in (old, waits):
                c.mail("a@sender.example")
            waits.putcmd("rcpt", "TO:<wait@example.org>")
            assert [house.ask("bomb")[0][:3] for _ in range(2)] == ["451", "451"]
            assert house.ask("x") == ["550 5.7.1 result=0 0"]  # a new state
            eventually(lambda: "its Lua state is made anew" in house.log())
            kept = old.rcpt("x@example.org")[1]  # what has vars goes on in the old one, and so does what waits
            assert kept.startswith(b"5.7.1 result=0 ") and int(kept.split()[-1]) > 100, kept
            assert waits.getreply()[1] == kept
        assert house.ask("x") == ["550 5.7.1 result=0 0"]


def test_a_coroutine_that_was_killed_is_not_used_again():
    functions = {"loop": "while true do end", "again": "while true do pcall(function() end) end"}
    with House('filter "x.lua" { cpu = "20ms" }', {"x.lua": cases(functions)}) as house:
        for i in range(6):
            for name in functions:
                reply, took = kill_time(house, name)
                assert reply.startswith("451") and took < SLOW, (i, name, took)
