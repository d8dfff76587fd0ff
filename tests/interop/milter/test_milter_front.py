"""A chain of ours behind a real Postfix and a real Sendmail: `milter "NAME"`. What a client hears, what the next hop gets, what is held."""
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time

import pytest
from gateway import SLOW, Gateway, free_port
from mtas import Postfix, Sendmail, wait_for
from milter_peers import Sink, client

# Each message says in a field or by an address what is to become of it: one gateway and one MTA for all of them.
SCRIPT = """
edits_body()
edits_late()

local function case_of(a) return tostring(a):match("^([%a_]+)") or "" end

function on.helo(s, name)
  if name == "refused.example" then return reject("550 5.7.1 not this name") end
end

function on.mail(s, m, from)
  local c = case_of(from)
  if c == "mail_reject" then return reject("550 5.7.1 not this sender") end
  if c == "mail_defer" then return defer("451 4.7.1 sender later") end
  if c == "mail_drop" then return drop("421 4.7.0 go away") end
  if c == "mail_discard" then return discard("sender") end
  if c == "early_field" then m.headers:add("X-Early", "by mail") end
end

function on.rcpt(s, m, to)
  local c = case_of(to)
  if c == "rcpt_reject" then return reject("550 5.1.1 no such user") end
  if c == "rcpt_defer" then return defer("450 4.2.0 full") end
  if c == "rcpt_drop" then return drop("421 4.7.0 go away") end
  if c == "rcpt_discard" then return discard("recipient") end
  if c == "rcpt_accept" then return accept("known") end
  if c == "rcpt_other" then m:set_rcpt(to, "other@example.net") end
end

function on.data(s, m)
  if case_of(m.from) == "data_reject" then return reject("554 5.7.1 no data") end
end

function on.headers(s, m)
  local h, c = m.headers, case_of(m.from)
  if c == "headers_reject" then return reject("554 5.7.1 the fields") end
  if c == "headers_hold" then return quarantine("the fields") end
  if c == "fields" then
    h:remove("A", 3)
    h:replace("A", 2, "changed")
    h:remove("A", 1)
    h:add("N", "first", "top")
    h:add("Z", "last", "bottom")
    h:set("Empty", "")
    h:rename("B", "Renamed")
  elseif c == "folds" then
    h:add("X-Long", ("word "):rep(40), "bottom")
    h:append("Subject", " (seen)")
  elseif c == "slow" then
    local got = dns.a("slow.example.org", { timeout = "8s" })
    h:add("X-Dns", got and tostring(got[1]) or "none", "bottom")
  end
end

function on.body(s, m, chunk)
  local c = case_of(m.from)
  if c == "body_reject" then return reject("554 5.7.1 the body") end
  if c == "body_replace" then
    if chunk.last then chunk:replace("replaced\\n.dot\\r\\nend") else chunk:drop() end
  elseif c == "body_empty" then chunk:drop()
  elseif c == "body_rewrite" then chunk:replace((chunk:text():upper())) end
end

function on.message(s, m)
  local c = case_of(m.from)
  if c == "end_reject" then return reject("554 5.7.1 the end\\nof it: 100%") end
  if c == "end_defer" then return defer("451 4.7.1 later") end
  if c == "end_drop" then return drop("421 4.7.0 closing") end
  if c == "end_discard" then return discard("the end") end
  if c == "end_hold" then m.headers:add("X-Held", "yes", "bottom") return quarantine("the end") end
  if c == "envelope" then
    m:set_from("new@example.org")
    m:add_rcpt("added@example.net")
    for _, to in ipairs(m.rcpts) do if to.localpart == "gone" then m:remove_rcpt(to) end end
  elseif c == "null" then m:set_from("")
  elseif c == "late_body" then m:set_body("a late body\\n")
  elseif c == "sleeps" then sleep("6s") end
end
"""
FIELDS = ["Subject: s", "A: 1", "B: 1", "A: 2", "Empty: not yet", "A: 3", "From: a@example.org", "To: k@example.net", "Date: Sat, 28 Nov 2026 00:00:00 +0000",
          "Message-Id: <1@example.org>"]
BODY = "x\r\n.y\r\n"
WHOLE = "\r\n".join(FIELDS) + "\r\n\r\n" + BODY


class Resolver(threading.Thread):
    """Answers each question for an address after three seconds."""
    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def answer(self, question, peer):
        end = question.index(b"\0", 12) + 5
        wanted = question[end - 4:end - 2] == b"\0\1"
        reply = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, int(wanted), 0, 0) + question[12:end]
        if wanted:
            reply += b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + socket.inet_aton("192.0.2.53")
        time.sleep(3)
        self.socket.sendto(reply, peer)

    def run(self):
        while True:
            try:
                question, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self.answer, args=(question, peer), daemon=True).start()


class House:
    """One MTA with our gateway for a milter."""
    def __init__(self, kind, script=SCRIPT):
        self.folder = tempfile.mkdtemp(prefix="sluice-mta-")
        os.chmod(self.folder, 0o755)
        self.sink, self.resolver = Sink(), Resolver()
        self.gateway = Gateway('dns { "127.0.0.1:%d" }\nmilter "mta" { "unix:%s/milter", chain = "in", mode = "0666", progress = "2s" }\n'
                               'chain "in" { filter "f.lua" { } }\n' % (self.resolver.port, self.folder), {"filters/f.lua": script})
        self.mta = None
        try:
            self.gateway.start()
            self.mta = kind(self.folder, self.sink.address[1])
        except BaseException:
            self.stop()
            raise

    def send(self, sender, recipients=("k@example.net",), message=WHOLE, mail=""):
        """{command: reply} of one message, and what the next hop got of it: (sender, recipients, fields, body), or None."""
        before = len(self.sink.mails)
        said = dict(client(self.mta.port, ["<%s>" % r for r in recipients], re.sub(r"(?m)^\.", "..", message).encode("latin-1"), "MAIL FROM:<%s@example.org>%s" % (sender, mail)))
        said = {at: re.sub(r" <\S+>\.\.\. ", " ", words) for at, words in said.items()}  # Sendmail puts the address in front
        self.gone()
        mails = self.sink.mails[before:]
        assert len(mails) <= 1
        return said, parted(mails[0]) if mails else None

    def gone(self):
        wait_for(self.mta.is_idle, 60)

    def stop(self):
        if self.mta:
            self.mta.stop()
        wrong = self.gateway.stop()
        self.sink.stop()
        self.resolver.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not wrong, wrong


def parted(mail):
    sender, recipients, content = mail
    head, _, body = content.decode("latin-1").partition("\r\n\r\n")
    fields = [f for f in re.split(r"\r\n(?![ \t])", head)]
    return re.sub(r" .*", "", sender), sorted(re.sub(r" .*", "", r) for r in recipients), fields, body


def names_and_values(fields):
    return [f for f in fields if not f.startswith("Received: ") or "mta.example.net" not in f]


@pytest.fixture(scope="module", params=[Postfix, Sendmail], ids=lambda kind: kind.name)
def house(request):
    if request.param.lacks():
        pytest.skip("%s: %s" % (request.param.name, request.param.lacks()))
    h = House(request.param)
    yield h
    h.stop()


def test_what_no_filter_touches_passes_as_it_came(house):
    said, mail = house.send("plain")
    assert said["end"].startswith("250")
    assert mail[:2] == ("<plain@example.org>", ["<k@example.net>"])
    assert names_and_values(mail[2]) == FIELDS and mail[3] == BODY


@pytest.mark.parametrize("line", ["Subject : a blank in front of the colon", "Subject\t: a tab there", "X-\xe4: an octet over 127", "Bad Name: two words", ": no name",
                                  ">From someone: an mbox line", "a line without one"])
def test_lines_that_are_no_good_fields_do_not_cost_the_message(house, line):
    said, mail = house.send("plain", message="From: <a@example.org>\r\nTo: <b@example.org>\r\nDate: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-Id: <1@example.org>\r\n%s\r\n\r\nx\r\n" % line)
    assert said["end"].startswith("250") and mail, said


@pytest.mark.parametrize("sender,at,words", [
    ("mail_reject", "MAIL", "550 5.7.1 not this sender"), ("mail_defer", "MAIL", "451 4.7.1 sender later"), ("data_reject", "DATA", "554 5.7.1 no data"),
    ("headers_reject", "end", "554 5.7.1 the fields"), ("body_reject", "end", "554 5.7.1 the body"), ("end_defer", "end", "451 4.7.1 later")])
def test_a_refusal_is_told_in_its_words_where_it_was_said(house, sender, at, words):
    said, mail = house.send(sender)
    assert said[at] == words and mail is None


def test_a_refusal_of_two_lines(house):
    said, mail = house.send("end_reject")
    assert said["end"].split("\\n") == ["554-5.7.1 the end", "554 5.7.1 of it: 100%"] and mail is None


@pytest.mark.parametrize("sender,at", [("mail_drop", "MAIL"), ("end_drop", "end")])
def test_a_drop_is_421_and_the_message_is_not_taken(house, sender, at):
    said, mail = house.send(sender)
    assert said[at].startswith("421 4.7.0") and mail is None


def test_each_recipient_has_its_own_answer(house):
    said, mail = house.send("plain", ("rcpt_reject@example.net", "k@example.net", "rcpt_defer@example.net", "rcpt_discard@example.net", "rcpt_accept@example.net"))
    assert said["RCPT1"] == "550 5.1.1 no such user" and said["RCPT3"] == "450 4.2.0 full"
    assert [said["RCPT%d" % n][:3] for n in (2, 4, 5)] == ["250"] * 3 and said["end"].startswith("250")
    assert mail[1] == ["<k@example.net>", "<rcpt_accept@example.net>"]


def test_a_drop_at_rcpt_closes(house):
    said, mail = house.send("plain", ("k@example.net", "rcpt_drop@example.net"))
    assert said["RCPT2"].startswith("421 4.7.0") and mail is None


@pytest.mark.parametrize("sender,recipients", [("mail_discard", ["k@example.net"]), ("end_discard", ["k@example.net"]), ("plain", ["rcpt_discard@example.net"])])
def test_a_message_that_is_discarded_is_250_and_goes_nowhere(house, sender, recipients):
    said, mail = house.send(sender, recipients)
    assert said["end"].startswith("250") and mail is None


def test_a_recipient_is_rewritten_at_rcpt(house):
    said, mail = house.send("plain", ("rcpt_other@example.net", "k@example.net"))
    assert said["end"].startswith("250") and mail[1] == ["<k@example.net>", "<other@example.net>"]


def test_fields_are_removed_changed_and_added(house):
    said, mail = house.send("fields")
    assert said["end"].startswith("250")
    # a renamed one goes to the bottom: of places within, Postfix and Sendmail have different ideas
    assert [f.rstrip(" ") for f in names_and_values(mail[2])] == ["N: first", "Subject: s", "A: changed", "Empty:", "From: a@example.org", "To: k@example.net",
                                                                  "Date: Sat, 28 Nov 2026 00:00:00 +0000", "Message-Id: <1@example.org>", "Renamed: 1", "Z: last"]
    assert mail[3] == BODY


def test_folds_and_what_is_appended(house):
    said, mail = house.send("folds", message=WHOLE.replace("Subject: s", "Subject: s\r\n\tfolded"))
    subject = [f for f in mail[2] if f.startswith("Subject")]
    assert subject == ["Subject: s\r\n\tfolded (seen)"]
    assert len([f for f in mail[2] if f.startswith("X-Long:") and "word word" in f]) == 1


def test_fields_added_before_the_content(house):
    said, mail = house.send("early_field")
    assert "X-Early: by mail" in mail[2]


@pytest.mark.parametrize("sender,body", [("body_replace", "replaced\r\n.dot\r\nend\r\n"), ("body_empty", ""), ("body_rewrite", "X\r\n.Y\r\n"), ("late_body", "a late body\r\n")])
def test_the_body_is_said_anew(house, sender, body):
    said, mail = house.send(sender)
    assert said["end"].startswith("250") and mail[3] == body
    assert names_and_values(mail[2]) == FIELDS


def test_sender_and_recipients_are_changed_at_the_end(house):
    said, mail = house.send("envelope", ("gone@example.net", "k@example.net"))
    assert mail[:2] == ("<new@example.org>", ["<added@example.net>", "<k@example.net>"])


def test_the_sender_becomes_the_null_path(house):
    assert house.send("null")[1][0] == "<>"


@pytest.mark.parametrize("sender", ["headers_hold", "end_hold"])
def test_a_message_is_held(house, sender):
    mark = "held%s@example.net" % sender
    said, mail = house.send(sender, [mark])
    assert said["end"].startswith("250") and mail is None and house.mta.held(mark.encode())


def test_a_script_waits_for_dns(house):
    began = time.monotonic()
    said, mail = house.send("slow")
    assert "X-Dns: 192.0.2.53" in mail[2] and time.monotonic() - began > 2.5


def test_the_end_of_a_message_may_take_long(house):
    said, mail = house.send("sleeps")
    assert said["end"].startswith("250") and mail is not None


@pytest.mark.parametrize("sender", ["plain", "body_rewrite"])
def test_ten_megabytes(house, sender):
    body = "".join("%070d\r\n" % n for n in range(140000))
    began = time.monotonic()
    said, mail = house.send(sender, message=WHOLE.replace(BODY, "") + body)
    assert said["end"].startswith("250") and mail[3] == body
    assert time.monotonic() - began < 60 * SLOW


def test_the_log_tells_whose_mail_it_was(house):
    house.send("plain", ("logged@example.net",))
    line = [l for l in house.gateway.log().splitlines() if "event=msg" in l and "<logged@example.net>" in l]
    assert len(line) == 1
    for word in ("listen=mta", "client=127.0.0.1", "helo=client.example.org", "from=<plain@example.org>", "verdict=forwarded", "backend=mta/unix", "mid=<1@example.org>"):
        assert word in line[0], line
    assert re.search(r" qid=\w+ ", line[0])
