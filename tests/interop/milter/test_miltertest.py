"""A client of the milter protocol that others have written: miltertest of OpenDKIM, which plays miltertest.lua."""
import os
import shutil
import subprocess

import pytest
from gateway import SLOW, Gateway

SCRIPT = """
edits_body()
edits_late()
local function case_of(m) return m.from.localpart end
function on.connect(s) end
function on.helo(s, name) end
function on.mail(s, m, from) if from.localpart == "mail" then return reject("550 5.7.1 not this sender") end end
function on.rcpt(s, m, to) if to.localpart == "nobody" then return reject("550 5.1.1 no such user") end end
function on.data(s, m) end
function on.headers(s, m)
  if case_of(m) ~= "edits" then return end
  local h = m.headers
  h:remove("A", 3)
  h:replace("A", 2, "changed")
  h:add("X-Top", "first", "top")
  h:add("X-Client", s.helo .. " [" .. s.ip .. "]", "bottom")
end
function on.body(s, m, chunk) if case_of(m) == "edits" then chunk:replace((chunk:sub(1, #chunk):upper())) end end
function on.message(s, m)
  local c = case_of(m)
  if c == "edits" then
    m:add_rcpt("added@example.net")
    for _, to in ipairs(m.rcpts) do if to.localpart == "gone" then m:remove_rcpt(to) end end
  elseif c == "hold" then return quarantine("held here")
  elseif c == "end" then return defer("451 4.7.1 later")
  elseif c == "lost" then return discard("so") end
end
"""


@pytest.mark.skipif(not shutil.which("miltertest"), reason="needs the package miltertest")
def test_miltertest_hears_what_it_should():
    gateway = Gateway('milter "mta" { "unix:@DIR@/milter", chain = "in", mode = "0666" }\nchain "in" { filter "f.lua" { } }\n', {"filters/f.lua": SCRIPT}).start()
    try:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "miltertest.lua")
        played = subprocess.run(["miltertest", "-D", "where=unix:%s/milter" % gateway.folder, "-s", script], capture_output=True, text=True, timeout=60 * SLOW)
        assert played.returncode == 0, played.stdout + played.stderr + gateway.log()
        ends = [line for line in gateway.log().splitlines() if "event=msg " in line]
        assert sum("verdict=abort" in line for line in ends) == 3, ends
    finally:
        wrong = gateway.stop()
    assert not wrong, wrong
