"""The chains, as sluice.lua has them, and what is sent through each: {chain: {name of a session: steps}} (talk.py).

A filter acts by the sender: "f17@example.org" are edits of fields by the dice of seed 17, "headers_reject@example.org" that verdict at that
hook. So each chain serves many messages. Texts of filters have the word SAID in them: such replies must be the same word by word."""
import re

from messages import all_of_them, WHOLE
from talk import bdat, data

FIELDS = r"""
local names = { "Subject", "To", "Received", "X-A", "A", "Content-Type", "Cc", "Keywords", "DKIM-Signature", "Reply-To" }
local values = { "v", "two words", "caf\xc3\xa9", ("long words "):rep(20), "<a@example.org>, <b@example.org>", "x = y" }

-- Edits by the dice that a number begins: the same in each front.
local function edit(h, seed, steps)
  local state = seed * 7919 + 17
  local function roll(n) state = (state * 1103515245 + 12345) % 2147483648 return state // 65536 % n + 1 end
  local function any(list) return list[roll(#list)] end
  for _ = 1, steps do
    local what, name, value = roll(9), any(names), any(values)
    local count = h:count(name)
    local i = count > 0 and roll(count) or 0
    if what == 1 then h:add(name, value, "bottom")
    elseif what == 2 then h:add(name, value, "top")
    elseif what == 3 then h:add("X-New", value)
    elseif what == 4 then h:set(name, value)
    elseif i == 0 then h:add("X-None", name .. " is not there", "bottom")
    elseif what == 5 then h:replace(name, i, value)
    elseif what == 6 then h:remove(name, i)
    elseif what == 7 then h:append(name, " (seen)")
    elseif what == 8 then h:prepend(name, "seen: ")
    else h:replace(name, -1, value) end
  end
end

-- What a milter cannot say as the proxy does it: one of these for a sender, see rows.py.
local special = {
  between = function(h) h:add("X-Between", "three", 2) end,
  renamed = function(h) if h:has("X-A") then h:rename("X-A", "X-Renamed") else h:add("X-None", "no X-A") end end,
  case = function(h) h:rename("subject", "SUBJECT") end,
  emptied = function(h) h:add("X-Emptied", "", "bottom") if h:has("Subject") then h:replace("Subject", 1, "") end end,
  long = function(h) h:add("X-Long", ("long words "):rep(7000), "bottom") end,
}
local function seed(m) return tonumber(tostring(m.from):match("^f(%d+)")) end
"""
LUA = {
    "filters/fields.lua": FIELDS + r"""
function on.mail(s, m, from) if seed(m) and seed(m) % 5 == 0 then m.headers:add("X-Early", "by mail") end end
function on.headers(s, m)
  local does = special[tostring(m.from):match("^(%a+)@") or ""]
  if does then does(m.headers) elseif seed(m) then edit(m.headers, seed(m), seed(m) % 4 + 1) end
end
""",
    "filters/late.lua": FIELDS + r"""
edits_late()
function on.message(s, m) if seed(m) then edit(m.headers, seed(m) + 1000, seed(m) % 3 + 1) end end
""",
    "filters/bodies.lua": r"""
edits_body()
edits_late()
local function way(m) return (tonumber(tostring(m.from):match("^f(%d+)")) or 0) % 7 end
function on.body(s, m, chunk)
  local w = way(m)
  if w == 1 then chunk:replace((chunk:sub(1, #chunk):upper()))
  elseif w == 2 then chunk:drop()
  elseif w == 3 then if chunk.last then chunk:replace("instead\nof it\r\n.dot\r\n\r\nno line end") else chunk:drop() end
  elseif w == 4 and chunk.last then chunk:replace(chunk:sub(1, #chunk) .. "a footer\r\n")
  elseif w == 5 and chunk.offset == 0 then chunk:replace(".\r\n" .. chunk:sub(1, #chunk)) end
end
function on.message(s, m) if way(m) == 6 then m.headers:add("X-Late", "yes", "bottom") m:set_body("a late body\r\n") end end
""",
    "filters/envelope.lua": r"""
edits_late()
local function does(m, what) return tostring(m.from):find(what, 1, true) end
function on.mail(s, m, from)
  if does(m, "early-sender") then m:set_from("early@example.org") end
end
function on.rcpt(s, m, to)
  if to.localpart == "other" then m:set_rcpt(to, "set@example.net") end
  if to.localpart == "more" then m:add_rcpt("more1@example.net") m:add_rcpt("more2@example.net") end
  if to.localpart == "left-out" then return discard("left out") end
end
function on.message(s, m)
  if does(m, "late-sender") then m:set_from("late@example.org") end
  if does(m, "late-null") then m:set_from("") end
  if does(m, "late-add") then m:add_rcpt("added@example.net") end
  if does(m, "late-twice") then m:add_rcpt("added@example.net") m:add_rcpt("added@example.net") end
  if does(m, "late-there") then m:add_rcpt("k@example.net") end
  if does(m, "late-drop") then for _, to in ipairs(m.rcpts) do if to.localpart == "gone" then m:remove_rcpt(to) end end end
  if does(m, "late-all") then for _, to in ipairs(m.rcpts) do m:remove_rcpt(to) end end
end
""",
    "filters/verdicts.lua": r"""
edits_late()
local does = {
  reject = function() return reject("550 5.7.1 SAID no") end,
  lines = function() return reject("554 5.7.1 SAID one\nSAID two 100%%\nSAID three") end,
  plain = function() return reject() end,
  code = function() return reject("552 5.3.4 SAID too much") end,
  defer = function() return defer("451 4.7.1 SAID later") end,
  full = function() return defer("452 4.2.2 SAID full") end,
  drop = function() return drop("421 4.7.0 SAID go") end,
  gone = function() return drop("521 5.7.0 SAID gone") end,
  cut = function() return drop("554 5.7.0 SAID cut") end,
  discard = function() return discard("so") end,
  accept = function() return accept("so") end,
  pass = function() return pass("so") end,
  skip = function() return skip("so") end,
  raise = function() error("so") end,
  quarantine = function(m) m.headers:add("X-Held", "yes", "bottom") return quarantine("so") end,
}
local function verdict(stage, m, text)
  local what = tostring(text):match("^" .. stage .. "_(%l+)")
  if what then return does[what](m) end
end
local clients = { ["127.0.0.11"] = "reject", ["127.0.0.12"] = "defer", ["127.0.0.13"] = "drop", ["127.0.0.14"] = "pass", ["127.0.0.15"] = "lines" }
function on.connect(s) if clients[tostring(s.ip)] then return does[clients[tostring(s.ip)]]() end end
function on.helo(s, name) local what = tostring(name):match("^helo%-(%l+)") if what then return does[what]() end end
function on.mail(s, m, from) return verdict("mail", m, from) end
function on.rcpt(s, m, to) return verdict("rcpt", m, to) end
function on.data(s, m) return verdict("data", m, m.from) end
function on.headers(s, m) return verdict("headers", m, m.from) end
function on.body(s, m, chunk) return verdict("body", m, m.from) end
function on.message(s, m) return verdict("message", m, m.from) end
""",
    "filters/submitted.lua": r"""
local does = {
  bottom = function(h) h:add("X-Bottom", "yes", "bottom") end,
  top = function(h) h:add("X-Top", "yes", "top") end,
  date = function(h) h:remove("Date") h:add("Date", "Sat, 28 Nov 2026 12:00:00 +0000", "bottom") end,
  remove = function(h) h:remove("Message-Id") h:remove("From") end,
  address = function(h) h:set("To", "user") end,
}
function on.headers(s, m) local what = tostring(m.from):match("^(%l+)@") if does[what] then does[what](m.headers) end end
""",
    "filters/behind.lua": r"""
function on.headers(s, m) m.headers:add("X-Behind", "headers", "bottom") end
function on.message(s, m) if tostring(m.from):find("behind") then return reject("550 5.7.1 SAID behind") end end
""",
}
HOOKS = ["mail", "rcpt", "data", "headers", "body", "message"]
VERDICTS = {
    "mail": "reject lines plain code defer full drop gone cut discard accept pass skip raise",
    "rcpt": "reject lines plain code defer full drop gone cut discard accept skip raise",
    "data": "reject lines plain code defer full drop gone cut discard accept pass skip raise",
    "headers": "reject lines plain code defer full drop gone cut discard accept pass skip raise quarantine",
    "body": "reject lines plain code defer full drop gone cut discard accept pass skip raise quarantine",
    "message": "reject lines plain code defer full drop gone cut discard accept pass skip raise quarantine",
}
PROBE = {"reject": "reject 550 5.7.1 SAID no", "lines": "reject 554 5.7.1 SAID one\\\\nSAID two", "defer": "defer 451 4.7.1 SAID later", "drop": "drop 421 4.7.0 SAID go",
         "discard": "discard so", "accept": "accept so", "pass": "pass so", "skip": "skip so", "failed": "failed", "quarantine": "quarantine so"}
C_FIELDS = ["headers: if f add X-C: {mail.from}", "headers: if 1 top X-Top: 1", "headers: if 2 top Received: from probe", "headers: if 3 set Subject: set\\\\r\\\\n\\\\tand folded",
            "headers: if 4 set A: changed", "headers: if 5 remove A", "headers: if 6 remove Subject", "headers: if 7 before X-First: first", "headers: if 8 set To:no blank", "headers: if 9 set A:"]


def probe(steps, *flags):
    return 'filter "probe" { %s, flags = { %s } }' % (", ".join('"%s"' % s for s in steps), ", ".join('"%s"' % f for f in flags))


def c_verdicts():
    """A hook's verdict by its sender (rcpt: by the recipient)."""
    steps = []
    for hook in HOOKS:
        for name, action in PROBE.items():
            if not (name == "quarantine" and hook in HOOKS[:3]) and not (name == "pass" and hook == "rcpt"):
                steps.append("%s: if %s_%s %s" % (hook, hook, name, action))
    return steps


C_BODY = ["body: if f1 swap eE", "body: if f2 append a footer of C\\\\r\\\\n", "body: if f3 swap .o"]
SUBMITTED = "submitted"  # its Postfix completes the fields of its own clients' mail, as it does as shipped
CHAINS = {
    "none": "",
    "lua": 'filter "fields.lua" { }',
    "c": probe(C_FIELDS),
    "mixed": ", ".join([probe(C_FIELDS[:3]), 'filter "fields.lua" { }', probe(["message: if f add X-Late: C"], "late_fields"), 'filter "late.lua" { }']),
    "shipped": 'filter "clean_headers.lua" { remove = { "X-A", "Received" }, add = { ["X-Clean"] = "yes" } }, filter "subject_tag.lua" { tag = "[out]" }',
    "bodies": 'filter "bodies.lua" { }',
    "bodies-c": probe(C_BODY, "edits_body") + ', filter "fields.lua" { }',
    SUBMITTED: 'filter "submitted.lua" { }',
    "envelope": ", ".join(['filter "envelope.lua" { }', probe(["message: if c-sender set_reverse_path c@example.org", "message: if c-add add_rcpt c@example.net", "message: if c-drop drop_rcpt gone@example.net"], "late_envelope")]),
    "verdicts": 'filter "verdicts.lua" { }, filter "behind.lua" { }',
    "verdicts-c": ", ".join([probe(c_verdicts(), "late_route"), 'filter "behind.lua" { }']),
}
SPREAD = ["none", "lua", "c", "mixed", "shipped", "bodies", "bodies-c"]  # each message goes through two of these, and of what is odd each through all
SPECIAL = ["between", "renamed", "case", "emptied", "long"]


def mail(sender, recipients, content, words=""):
    """The steps of a message. What does not end in a line's end can only be a chunk."""
    steps = ["MAIL FROM:<%s>%s" % (sender, words)] + ["RCPT TO:" + (r if r.startswith("<") else "<%s>" % r) for r in recipients]
    if content and not content.endswith(b"\r\n"):
        return steps + [bdat(content)]
    return steps + [data(re.sub(rb"(?m)^\.", b"..", content))]


def greeted(*mails, name="client.example.org"):
    return ["EHLO " + name] + [step for m in mails for step in m]


PLAIN = WHOLE.encode() + b"X-A: 1\r\nA: 1\r\nA: 2\r\n\r\nbody\r\n.dot\r\n"
KEPT = ["k@example.net"]


def envelopes():
    senders = ["early-sender", "late-sender", "late-null", "late-add", "late-twice", "late-there", "late-drop", "late-all", "c-sender", "c-add", "c-drop", "late-sender-late-add-late-drop", "early-sender-late-null",
               "c-sender-late-sender", "late-add-c-add-late-drop"]
    many = ["k@example.net", "gone@example.net", "other@example.net", "more@example.net", "left-out@example.net"]
    found = {}
    for sender in senders:
        for n, recipients in enumerate([KEPT, many, many[1:], [many[4]], ["<K@Example.NET>", "gone@example.net"]]):
            found["%s %d" % (sender, n)] = greeted(mail(sender + "@example.org", recipients, PLAIN), mail("plain@example.org", KEPT, PLAIN))
    found["parameters"] = greeted(mail("late-sender@example.org", ["<k@example.net> NOTIFY=NEVER", "<other@example.net> NOTIFY=SUCCESS ORCPT=rfc822;o@example.net"], PLAIN, " RET=HDRS ENVID=e1"))
    found["parameters of the null sender"] = greeted(mail("late-null@example.org", ["<gone@example.net> NOTIFY=NEVER"], PLAIN, " BODY=8BITMIME RET=FULL"))
    for name, content in all_of_them().items():
        if name in ("no field", "no From", "a megabyte", "no last line end") or name.startswith("seed 1"):
            found[name] = greeted(mail("late-sender-late-add-c-drop@example.org", many, content))
    return found


def verdicts(verdicts_of):
    found = {}
    for hook in HOOKS:
        for what in verdicts_of(hook):
            sender = "%s_%s@example.org" % (hook, what) if hook != "rcpt" else "a@example.org"
            recipients = KEPT if hook != "rcpt" else ["one@example.net", "rcpt_%s@example.net" % what, "two@example.net"]
            found["%s at %s" % (what, hook)] = greeted(mail(sender, recipients, PLAIN), mail("behind@example.org", KEPT, PLAIN), mail("a@example.org", KEPT, PLAIN))
            if hook == "rcpt":
                found["%s alone at rcpt" % what] = greeted(mail(sender, recipients[1:2], PLAIN), mail("a@example.org", KEPT, PLAIN))
    return found


def lua_verdicts():
    found = verdicts(lambda hook: VERDICTS[hook].split())
    for name in "reject lines plain code defer drop gone accept pass skip raise".split():
        found["%s at helo" % name] = greeted(mail("a@example.org", KEPT, PLAIN), name="helo-%s.example" % name) + greeted(mail("a@example.org", KEPT, PLAIN))
    for n in range(11, 16):
        found["client 127.0.0.%d at connect" % n] = [("from", "127.0.0.%d" % n)] + greeted(mail("behind@example.org", KEPT, PLAIN))
    return found


def sessions():
    found = {name: {} for name in CHAINS}
    for n, (name, content) in enumerate(all_of_them().items()):
        through = SPREAD if "/" not in name and not name.startswith("seed ") else [SPREAD[n % 7], SPREAD[(n + 3) % 7]]
        for chain in through:
            found[chain][name] = greeted(mail("f%d@example.org" % n, KEPT, content))
    for what in SPECIAL:
        found["lua"][what] = greeted(mail(what + "@example.org", KEPT, PLAIN))
    found["c"]["emptied"] = greeted(mail("9@example.org", KEPT, PLAIN))
    for what in ["none", "bottom", "top", "date", "remove", "address"]:
        for name, content in [("whole", PLAIN), ("only a subject", b"Subject: s\r\n\r\nx\r\n"), ("no field", b"\r\nx\r\n")]:
            found[SUBMITTED]["%s, %s" % (what, name)] = greeted(mail(what + "@example.org", KEPT, content))
    found["envelope"] = envelopes()
    found["verdicts"] = lua_verdicts()
    found["verdicts-c"] = verdicts(lambda hook: [v for v in PROBE if not (v == "quarantine" and hook in HOOKS[:3]) and not (v == "pass" and hook == "rcpt")])
    return found
