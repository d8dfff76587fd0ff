"""No message makes a script fail: over a thousand odd header sections through every shipped script and every call of m.headers."""
import base64
import email.header
import json
import os
import re
import socket
import threading

import pytest

from gateway import SLOW, Gateway, free_port
from house import SCRIPTS
from odd_headers import SECTIONS, chance

CHANCES = 650
TAG = "[\u00c4USSERES]"

# Every call that reads, of every field there is; what is certain goes back as JSON in base64.
READS = r"""
local function text(v)
  if type(v) == "table" and v.value then return tostring(v.value) end
  if type(v) ~= "string" then return tostring(v == nil and "null" or v) end
  return '"' .. v:gsub('["\\]', "\\%0") .. '"'
end
local function list(of) return "[" .. table.concat(of, ",") .. "]" end

function on.headers(s, m)
  local h, got = m.headers, {}
  local function say(key, v) got[#got + 1] = text(key) .. ':' .. v end
  for _, name in ipairs { "Subject", "From", "Date", "To", "Cc", "Received", "Message-ID", "X-Odd", "Reply-To" } do
    local addresses, names = {}, {}
    for _, a in ipairs(h:addresses(name)) do
      addresses[#addresses + 1] = list { text(a.addr), text(a.domain) }
      names[#names + 1] = text(a.name)
      assert(a.user .. a.ext ~= nil and a.postmaster ~= nil and a == a and tostring(a) == a.addr)
      assert(utf8.len(a.addr .. a.name .. a.domain), "no UTF-8")
    end
    say("addresses " .. name, list(addresses))
    say("display " .. name, list(names))
    say("count " .. name, text(h:count(name)))
    say("decoded " .. name, text(h:decoded(name)))
    for i = 1, h:count(name) do
      assert(utf8.len(h:decoded(name, i)) and not h:decoded(name, i):find "%c")
      address.list(h:get(name, i) .. h:raw(name, -i))
      address.parse(h:get(name, i))
      time.parse(h:get(name, i))
    end
    h:has(h:get(name) or "")
    h:get(h:decoded(name) or "")
    assert(#h:all(name) == h:count(name))
  end
  for _, name, value in h:each() do assert(h:has(name) and value) end
  local ar = h:auth_results "mx.example.org" or { all = {} }
  for _, r in ipairs(ar.all) do say("auth " .. r.method, text(ar[r.method])) end
  h:auth_results(h:get "From" or "")
  say("date", text(h:date()))
  say("message_id", text(h:message_id()))
  h:add("X-Got", base64.encode("{" .. table.concat(got, ",") .. "}"))
end
"""

# What was read is written back in every way there is.
WRITES = r"""
function on.headers(s, m)
  local h, n = m.headers, 0
  for _, name, value in h:each() do
    n = n + 1
    if n > 12 then break end
    h:replace(name, 1, value)
    h:replace(name, -1, h:decoded(name) or "")
    h:add("X-Copy", value)
    h:add("X-Copy", h:raw(name) or "", "top")
    h:set("To", h:get "From" or h:decoded(name) or "")
    h:append(name, value)
    h:prepend(name, h:decoded(name) or "")
    h:prepend("X-New", value)
    h:add("X-" .. name, value)
    h:add(value, value)
    h:rename(name, "X-Was-" .. name)
    h:rename("X-Was-" .. name, value)
    h:rename("X-Was-" .. name, name)
  end
  for _, a in ipairs(h:addresses "From") do h:set("Reply-To", a.name .. " <" .. a.addr .. ">") end
  m.tags.subject = h:decoded "Subject"
  log.info(h:get "Subject")
end
"""
RETITLES = r"""
local opt = options { tag = "x" }
function on.headers(s, m)
  m.headers:set("Subject", opt.tag .. " " .. (m.headers:decoded "Subject" or ""))
end
"""
ACTS = r"""
local opt = options { action = one_of { "tag" }, text = "5.7.1 %s" }
function on.headers(s, m) return act(opt, m.headers:get "Subject" or "none") end
"""


class Sink:
    """A backend that keeps contents in order."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.mails = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = client.makefile("rb")
        client.sendall(b"220 sink\r\n")
        for line in lines:
            if line[:4].upper() == b"EHLO":
                client.sendall(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 99999999\r\n")
            elif line[:4].upper() == b"DATA":
                client.sendall(b"354 go\r\n")
                content = []
                for line in lines:
                    if line == b".\r\n":
                        break
                    content.append(line[1:] if line.startswith(b".") else line)
                self.mails.append(b"".join(content))
                client.sendall(b"250 2.0.0 kept\r\n")
            else:
                client.sendall(b"250 2.0.0 ok\r\n")


class Sender:
    def __init__(self, port):
        self.port, self.n, self.socket = port, 0, None

    def send(self, message):
        """The reply to the end of the message."""
        if self.n % 100 == 0:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 30 * SLOW)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.lines = self.socket.makefile("rb")
            self.reply()
            self.say(b"EHLO client.example.net\r\n")
        self.n += 1
        self.socket.sendall(b"MAIL FROM:<a@sender.example> BODY=8BITMIME\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        assert [self.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        stuffed = re.sub(rb"(?m)^\.", b"..", message)
        return self.say(stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n")

    def say(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def reply(self):
        for line in self.lines:
            if line[3:4] != b"-":
                return line.decode().strip()
        return "the connection ended"


SHIPPED = {
    "clean_headers.lua": '{ add = { ["X-Scanned"] = "gr\u00fcn" }, rename = { ["X-Mailer"] = "X-Old-Mailer" } }',
    "dnsbl.lua": "", "greylist.lua": '{ delay = "1s", except = { client = "127.0.0.1" } }', "ratelimit.lua": '{ messages = 99999, recipients = 4000 }',
    "recipients.lua": '{ allow = { "ann@example.org" }, domains = { "example.org" } }', "score.lua": "{ tag = -1 }", "subject_tag.lua": '{ tag = "[EXT]" }',
}


@pytest.fixture(scope="module")
def house():
    sink, ports = Sink(), {}
    chains = {
        "shipped": ['filter "reads.lua" { cpu = "10s" }'] + ['filter "%s" %s' % (n, SHIPPED[n]) for n in sorted(SHIPPED)],
        "writes": ['filter "writes.lua" { cpu = "10s", memory = "64M" }', 'filter "acts.lua"', 'filter "reads.lua" { cpu = "10s" }'],
        "retitles": ['filter "retitles.lua" { tag = "%s" }' % TAG, 'filter "reads.lua" { cpu = "10s" }'],
    }
    conf = 'hostname "mx.example.org"\nworkers(1)\nbackend "sink" { "127.0.0.1:%d", health = 0 }\nlimits { messages = 1000, hops = 1000 }\n' % sink.port
    for name, filters in chains.items():
        ports[name] = free_port()
        conf += 'chain "%s" { %s }\nlisten "%s" { "127.0.0.1:%d", backend = "sink", chain = "%s" }\n' % (name, ", ".join(filters), name, ports[name], name)
    gateway = Gateway(conf, {"reads.lua": READS, "writes.lua": WRITES, "retitles.lua": RETITLES, "acts.lua": ACTS})
    gateway.start()
    yield gateway, sink, ports
    log = gateway.log()
    wrong = gateway.stop()
    assert not wrong, wrong + log[-3000:]


def test_every_shipped_script_is_here():
    assert set(os.listdir(SCRIPTS)) == set(SHIPPED)


def fields(message):
    """The fields as octets, in order, up to the first line that is none. Mbox lines at the head are no fields ("From :" is one)."""
    found = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", re.sub(rb"\A(?:>*[Ff][Rr][Oo][Mm] [^\n]*\n)+", b"", message)):
        if line[:1] in b" \t" and found:
            found[-1] += line
        elif re.match(rb"[!-9;-~]{1,997}[ \t]*:", line):
            found.append(line)
        else:
            break
    return found


def all_messages(chances=CHANCES):
    for name, (octets, checks) in SECTIONS.items():
        if name != "value-bare-cr":  # refused before any script sees it
            yield name, octets, checks
    for seed in range(chances):
        yield "chance(%d)" % seed, chance(seed), {}


def errors(gateway):
    return [line for line in gateway.log().splitlines() if re.match(r"ts=\S+ level=error ", line)][:5]


def judge_reads(name, checks, mail):
    found = re.search(rb"(?m)^X-Got: ([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n", mail)
    if not found: # longer than what a filter may write
        assert len(mail) > 60000, name
        return
    text = base64.b64decode(found.group(1)).decode("utf-8", "replace")  # of octets, message_id() gives octets
    got = json.loads(text, strict=False)
    for kind in ("decoded", "addresses", "display", "count"):
        for field, wanted in checks.get(kind, {}).items():
            if kind == "decoded":
                wanted = wanted if got["count " + field] else None
            assert got[kind + " " + field] == wanted, (name, kind, field)
    for key in ("date", "message_id"):
        if key in checks:
            assert got[key] == checks[key], (name, key)
    for wanted in checks.get("auth_results", {}).values():
        assert {k[5:]: v for k, v in got.items() if k.startswith("auth ")} == wanted, name


def test_shipped_scripts_pass_all_and_read_what_is_there(house):
    gateway, sink, ports = house
    sender, n = Sender(ports["shipped"]), 0
    for name, octets, checks in all_messages():
        sink.mails.clear()
        reply = sender.send(octets)
        assert reply.startswith("250"), (name, reply, errors(gateway))
        n += 1
        judge_reads(name, checks, sink.mails[0])
        left = fields(sink.mails[0])
        for field in fields(octets):
            kind = field.split(b":")[0].strip().lower()
            if kind not in (b"subject", b"x-spam-score", b"x-originating-ip"):
                assert field in left or field + b"\r\n" in left, (name, field, left[:5])
    assert n > 1000 and not errors(gateway)


def test_what_was_read_can_be_written(house):
    gateway, sink, ports = house
    sender = Sender(ports["writes"])
    for name, octets, _ in all_messages():
        sink.mails.clear()
        reply = sender.send(octets)
        assert reply.startswith("250"), (name, reply, errors(gateway))
        for word in re.findall(rb"=\?UTF-8\?B\?([A-Za-z0-9+/=]*)\?=", b"" if b"=?UTF-8?B?" in octets else sink.mails[0]):
            base64.b64decode(word).decode("utf-8")
    assert not errors(gateway)


def test_a_subject_set_to_its_decoded_self_says_the_same(house):
    gateway, sink, ports = house
    sender = Sender(ports["retitles"])
    for name, octets, checks in all_messages(50):
        sink.mails.clear()
        reply = sender.send(octets)
        assert reply.startswith("250"), (name, reply, errors(gateway))
        wanted = checks.get("decoded", {}).get("Subject")
        there = any(f.lower().startswith(b"subject") for f in fields(octets))
        if wanted is None or len(wanted) > 60000 or not there:
            continue
        both = (TAG + " " + wanted).strip()
        judge_reads(name, {"decoded": {"Subject": both}}, sink.mails[0])
        if "=?" not in wanted:  # and another reader agrees
            line = [f for f in fields(sink.mails[0]) if f.lower().startswith(b"subject")][0]
            value = re.sub(rb"\r\n(?=[ \t])", b"", line.split(b":", 1)[1]).decode("latin-1").strip()
            shown = "".join(t if isinstance(t, str) else t.decode(c or "latin-1") for t, c in email.header.decode_header(value))
            assert re.sub(r" +", " ", shown) == re.sub(r" +", " ", both), name
    assert not errors(gateway)
