"""What one client does, to whatever hook, costs that client alone: the mail of another is filtered as ever."""
import contextlib
import socket

import pytest

from gateway import SLOW
from house import House, eventually

TIMES = 50  # that each kind of failure is provoked in each hook; dear ones, that take their CPU time, half as often
DEAR = ("pattern", "patterns", "memory", "vars", "cpu", "caught")
HOOKS = ("connect", "helo", "mail", "rcpt", "data", "headers", "body", "message", "reply", "reset", "disconnect")
KINDS = {  # by client 127.0.0.10, 127.0.0.11, ...
    "error": 'error "provoked"',
    "object": "error {}",
    "nonsense": "return 5",
    "class": 'return reject(tostring "450 4.7.1 not of this class")',
    "stage": "return quarantine and setmetatable({}, {})",
    "wait": "return st:rate('', 1, 1)",
    "edit": "m:set_from(('x'):rep(100) .. '@' .. ('y.'):rep(200) .. 'example') m:add_rcpt 'no address' m:route 'nowhere'",
    "fields": "for i = 1, 100 do m.headers:add('X-Many', ('x'):rep(900)) end error 'enough'",
    "pattern": "return re '(a+)+$':test(('a'):rep(28) .. 'b')",
    "patterns": "kept = {} for i = 1, 1e6 do kept[i] = re(('([a-z]{1,9}%d)'):rep(200):gsub('%%d', s.port + i)) end",
    "memory": "local t = {} while true do t[#t + 1] = ('x'):rep(10000) end",
    "vars": "for i = 1, 1e6 do s.vars[i] = ('x'):rep(10000) .. i end",
    "cpu": "while true do end",
    "caught": "while true do pcall(error) end",
}

SCRIPT = """
local st = store()
local fine, kinds = re "^[a-z]+$", {}
%s
local function hook(name)
  return function(s, m)
    s.vars.seen = (s.vars.seen or "") .. name .. " "
    local number = tonumber(tostring(s.ip):match "%%d+$")
    if number > 1 then
      if name == "HOOK" then return kinds[number - 9](s, m) end
    elseif name == "message" then
      return reject("550 5.7.1 filtered %%s", fine:test "abc")
    elseif name == "reply" then
      return reword "250 2.1.5 in other words"
    elseif name == "disconnect" then
      log.info("seen: " .. s.vars.seen)
    end
  end
end
""" % "\n".join(f"kinds[{i + 1}] = function(s, m) local kept {code} end" for i, code in enumerate(KINDS.values()))
SCRIPT += "".join(f'on.{name} = hook "{name}"\n' for name in HOOKS)
TRANSACTION = ["MAIL FROM:<a@b.example>", "RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>"]


@contextlib.contextmanager
def connected(port, source="127.0.0.1"):
    """say(lines): says all at once, and returns as many replies as there are lines."""
    with socket.create_connection(("127.0.0.1", port), 30 * SLOW, (source, 0)) as c, c.makefile("rb") as said:
        def reply():
            line = said.readline()
            while line[3:4] == b"-":
                line = said.readline()
            return line.decode()

        def send(*lines):
            c.sendall("".join(line + "\r\n" for line in lines).encode())

        def say(*lines):
            send(*lines)
            return [reply() for _ in lines]

        say.send, say.reply = send, reply
        reply()
        yield say


CONTENT = "Subject: x\r\n\r\nx\r\n."


def message(say):
    replies = say(*TRANSACTION, "DATA")
    return replies + (say(CONTENT) if replies[-1].startswith("354") else [])


def provoke(port, hook, source, times):
    """By connections, by messages, by transactions, and by recipients of one transaction, as the hook asks for."""
    if hook in ("connect", "helo", "disconnect"):
        for _ in range(times):
            with connected(port, source) as say:
                say("EHLO bad.example", "QUIT")
        return
    with connected(port, source) as say:
        say("EHLO bad.example")
        if hook in ("mail", "rcpt", "reset"):
            say(*(TRANSACTION + ["RSET"]) * times)
            say(TRANSACTION[0], *TRANSACTION[1:] * (times // 2), "RSET")
        else:
            for _ in range(times):
                message(say)


def filtered(house):
    """Another client's mail meets each hook."""
    told = house.gateway.written().count("seen: ")
    with connected(house.port) as say:
        say("EHLO good.example")
        replies = message(say)
        assert "250 2.1.5 in other words\r\n" in replies and replies[-1] == "550 5.7.1 filtered true\r\n", replies
    eventually(lambda: house.gateway.written().count("seen: ") > told)
    seen = house.gateway.written().rsplit('seen: ', 1)[1].split('"')[0].split()
    assert set(seen) == set(HOOKS), seen


@pytest.mark.parametrize("hook", HOOKS)
def test_whatever_one_client_provokes_in_a_hook(hook):
    chain = 'filter "x.lua" { memory = "1M", cpu = "5ms", on_error = "continue" }'
    with House(chain, {"x.lua": SCRIPT.replace("HOOK", hook)}, more="limits { errors = 100000, junk = 0 }") as house:
        filtered(house)
        for i, kind in enumerate(KINDS):
            provoke(house.port, hook, "127.0.0.%d" % (10 + i), TIMES // 2 if kind in DEAR else TIMES)
            filtered(house)
            assert "is not run for" not in house.gateway.written(), (kind, house.log()[-3000:])


HELD = """
function on.mail(s, m) if s.helo == "vars.example" then s.vars.held = ("x"):rep(400000) .. s.id end end
function on.rcpt(s, m, to)
  local held = s.helo == "calls.example" and ("x"):rep(400000) .. s.id
  local work = ("y"):rep(100000) .. to.addr
  m.vars.n = (m.vars.n or 0) + 1
  if m.vars.n == 2 then sleep(held and "60s" or "3s") end
  if m.vars.n == 4 then s.vars.patterns = {} for i = 1, 50 do s.vars.patterns[i] = re(("(a{1,9}" .. s.port .. i .. ")"):rep(30)) end end
  return reject("550 5.7.1 filtered %d", m.vars.n)
end"""


def test_memory_that_one_client_holds_does_not_fail_the_calls_of_another():
    """In calls that wait, in vars, in patterns, over many connections: who holds most gives way."""
    chain = 'filter "x.lua" { memory = "1M", on_error = "continue", timeout = "30s" }'
    with House(chain, {"x.lua": HELD}, more="limits { errors = 1000, junk = 0 }") as house, contextlib.ExitStack() as stack:
        def begin(helo, source="127.0.0.1"):
            say = stack.enter_context(connected(house.port, source))
            say("EHLO " + helo)
            return say

        def is_filtered(say):
            return say(*TRANSACTION[:2])[1] == "550 5.7.1 filtered 1\r\n"

        waits, keeps = begin("good.example"), begin("good.example")
        assert is_filtered(waits) and is_filtered(keeps)
        waits.send(TRANSACTION[1])
        for _ in range(20):
            begin("calls.example", "127.0.0.2").send(*TRANSACTION[:2], TRANSACTION[1])
            begin("vars.example", "127.0.0.2").send(*TRANSACTION[:2])
            begin("patterns.example", "127.0.0.2").send(TRANSACTION[0], *[TRANSACTION[1]] * 4)
            assert is_filtered(begin("good.example"))
        assert waits.reply() == "550 5.7.1 filtered 2\r\n"
        assert keeps(TRANSACTION[1]) == ["550 5.7.1 filtered 2\r\n"]
        eventually(lambda: "of who holds most" in house.gateway.written())
