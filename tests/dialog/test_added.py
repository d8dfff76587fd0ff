"""The index of a recipient that a filter has added is for ever its own (filters/filter.h), whoever the client names behind it."""
import re

from conftest import Dialog, Run

DIALOG = """
c1 hello
c1 > MAIL FROM:<a@x.test>
c1 < 250
c1 > RCPT TO:<1@y.test>
b1 < MAIL FROM:<a@x.test>
b1 < RCPT TO:<1@y.test>
b1 > 250 ok
b1 > 250 one
c1 < 250 *one
c1 > RCPT TO:<2@y.test>
b1 < RCPT TO:<2@y.test>
b1 > 250 two
c1 < 250 *two
c1 > DATA
c1 < 450 *
log msg=looked
"""


class Watched(Run):
    """Keeps what filters have logged of the envelope."""
    seen = ()

    def look_in_log(self, pattern, wanted):
        super().look_in_log(pattern, wanted)
        self.seen = re.findall(r'msg="envelope from=a@x.test params= ?([^"]*)"', self.gateway.written())


def seen(settings):
    run = Watched(Dialog(settings + DIALOG), "plain")
    run.run()
    return run.seen


def probe(*steps):
    """At each of its calls it says who is there, in the order of their index; in the end it refuses DATA."""
    every = ["mail: rcpts", "rcpt: rcpts", "data: rcpts", "data: log looked", "data: defer 450 4.7.1 seen"]
    return 'module\nchain: filter "probe" { %s }\n' % ", ".join('"%s"' % s for s in list(steps) + every)


def test_added_at_mail_it_is_the_first():
    assert seen(probe("mail: add_rcpt copy@y.test")) == [
        "copy@y.test:added",
        "copy@y.test:added 1@y.test:pending",
        "copy@y.test:added 1@y.test:accepted 2@y.test:pending",
        "copy@y.test:added 1@y.test:accepted 2@y.test:accepted"]


def test_added_at_the_first_of_two_it_is_the_second():
    assert seen(probe("rcpt: if 1@ add_rcpt copy@y.test")) == [
        "",
        "1@y.test:pending copy@y.test:added",
        "1@y.test:accepted copy@y.test:added 2@y.test:pending",
        "1@y.test:accepted copy@y.test:added 2@y.test:accepted"]


def test_added_at_the_last_it_is_the_last():
    assert seen(probe("rcpt: if 2@ add_rcpt copy@y.test", "data: add_optional may@y.test")) == [
        "",
        "1@y.test:pending",
        "1@y.test:accepted 2@y.test:pending copy@y.test:added",
        "1@y.test:accepted 2@y.test:accepted copy@y.test:added may@y.test:added"]


SCRIPT = """file keep.lua <<
function on.rcpt(s, m, to)
  if to.localpart == "1" then
    m:add_rcpt("copy@y.test")
    for _, r in ipairs(m.rcpts) do if r.localpart == "copy" then m.vars.kept = r end end
  end
end
function on.data(s, m)
  m:remove_rcpt(m.vars.kept)
  local left = {}
  for _, r in ipairs(m.rcpts) do left[#left + 1] = r.addr end
  log.info("envelope from=a@x.test params= " .. table.concat(left, " "))
  log.info("looked")
  return defer("450 4.7.1 seen")
end
>>
chain: filter "keep.lua" { }
"""


def test_a_script_that_kept_it_removes_it_and_nobody_else():
    assert seen(SCRIPT) == ["1@y.test 2@y.test"]
