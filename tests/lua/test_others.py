"""What one client does, to whatever hook, costs that client alone: the mail of another is filtered as ever."""
import socket

import pytest

from gateway import SLOW
from house import House, eventually

BAD, TIMES = "127.0.0.2", 50  # the client that provokes, and how often

EVERY_HOOK = """
local fine = re "^[a-z]+$"
local kinds = {}
function kinds.error() error "provoked" end
function kinds.object() error {} end
function kinds.cpu() while true do end end
function kinds.memory() local t = {} while true do t[#t + 1] = ("x"):rep(1000) end end
function kinds.pattern() return re "(a+)+$":test(("a"):rep(28) .. "b") end
function kinds.class() return reject "450 4.7.1 not of this class" end
function kinds.nonsense() return 5 end
function kinds.edit(s, m)
  if not m then return s.headers end
  m:set_from(("x"):rep(100) .. "@" .. ("y."):rep(200) .. "example")
  m:add_rcpt "no address"
  m:route "nowhere"
end
function kinds.patterns() s = nil for i = 1, 1e6 do local p = re(i .. ("(x{1,99})"):rep(100)) end end

local function hook(name)
  return function(s, m, x)
    s.vars.seen = (s.vars.seen or "") .. name .. " "
    if tostring(s.ip) == "127.0.0.2" then
      local wanted, kind = "HOOK", "KIND"
      if wanted == name then return kinds[kind](s, m) end
    elseif name == "message" then
      return reject("550 5.7.1 filtered %s", fine:test "abc")
    elseif name == "reply" then
      return reword "250 2.1.5 in other words"
    elseif name == "disconnect" then
      log.info("seen: " .. s.vars.seen)
    end
  end
end
"""
HOOKS = ("connect", "helo", "mail", "rcpt", "data", "headers", "body", "message", "reply", "reset", "disconnect")
KINDS = ("error", "object", "cpu", "memory", "pattern", "class", "nonsense", "edit", "patterns")


def script_of(hook, kind):
    text = EVERY_HOOK.replace("s = nil ", "").replace('"HOOK"', f'"{hook}"').replace('"KIND"', f'"{kind}"')
    return text + "".join(f'on.{name} = hook "{name}"\n' for name in HOOKS)


def spoken(port, lines, source=BAD):
    """Says all lines at once, and reads to the end."""
    with socket.create_connection(("127.0.0.1", port), 30 * SLOW, (source, 0)) as c:
        c.sendall("".join(line + "\r\n" for line in lines).encode())
        got = b""
        while True:
            try:
                octets = c.recv(65536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                return got
            got += octets


TRANSACTION = ["MAIL FROM:<a@b.example>", "RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>"]


def provoke(port, hook, times):
    if hook in ("connect", "helo", "disconnect"):
        for _ in range(times):
            spoken(port, ["EHLO bad.example", "QUIT"])
    elif hook in ("data", "headers", "body", "message"):
        for _ in range(times):
            spoken(port, ["EHLO bad.example"] + TRANSACTION + ["DATA", "Subject: x", "", "x", ".", "QUIT"])
    else:
        spoken(port, ["EHLO bad.example"] + (TRANSACTION + ["RSET"]) * times + ["QUIT"])


def filtered(house):
    """Another client's mail meets each hook."""
    told = house.log().count("seen: ")
    got = spoken(house.port, ["EHLO good.example"] + TRANSACTION + ["DATA", "Subject: x", "", "x", ".", "QUIT"], "127.0.0.1")
    assert b"250 2.1.5 in other words" in got and b"550 5.7.1 filtered true" in got, got
    eventually(lambda: house.log().count("seen: ") > told)
    seen = house.log().rsplit('seen: ', 1)[1].split('"')[0].split()
    assert set(seen) == set(HOOKS), seen


@pytest.mark.parametrize("hook", HOOKS)
def test_whatever_one_client_provokes_in_a_hook(hook):
    chain = ", ".join(f'filter "{kind}.lua" {{ memory = "1M", cpu = "10ms", on_error = "continue", except = {{ rcpt = {{ "none@example.org" }} }} }}'
                      for kind in ())
    assert not chain
    for kind in KINDS:
        options = '{ memory = "1M", cpu = "10ms", on_error = "continue" }'
        with House(f'filter "x.lua" {options}', {"x.lua": script_of(hook, kind)}, more="limits { errors = 100000, junk = 0 }") as house:
            filtered(house)
            provoke(house.port, hook, TIMES)
            filtered(house)
            assert "is not run for" not in house.log()
