-- miltertest.lua - for miltertest (of OpenDKIM): what a client of the milter protocol that is not ours hears of our chain (test_miltertest.py),
-- event by event. -D where=SOCKET. It ends with an error at the first answer that is another one.
local function check(claim, what) if not claim then error(what, 2) end end
local function said(failed, conn, reply, what)
  check(failed == nil, what .. ": " .. tostring(failed))
  check(mt.getreply(conn) == reply, what .. " was answered with " .. tostring(mt.getreply(conn)))
end

local function open()
  local conn = mt.connect(where, 40, 0.05)
  check(conn, "no connection")
  check(mt.negotiate(conn, nil, nil, nil) == nil, "the negotiation failed")
  return conn
end

-- Up to the body.
local function message(conn, from, body)
  said(mt.mailfrom(conn, from), conn, SMFIR_CONTINUE, "MAIL")
  mt.macro(conn, SMFIC_RCPT, "i", "QUEUEID")
  said(mt.rcptto(conn, "<b@example.net>"), conn, SMFIR_CONTINUE, "RCPT")
  said(mt.rcptto(conn, "<gone@example.net>"), conn, SMFIR_CONTINUE, "another RCPT")
  said(mt.data(conn), conn, SMFIR_CONTINUE, "DATA")
  for _, field in ipairs { { "Subject", "s" }, { "A", "1" }, { "A", "2" }, { "A", "3" } } do
    check(mt.header(conn, field[1], field[2]) == nil, "a field")
  end
  said(mt.eoh(conn), conn, SMFIR_CONTINUE, "the end of the header section")
  said(mt.bodystring(conn, body), conn, SMFIR_CONTINUE, "the body")
end

local function client(conn)
  said(mt.conninfo(conn, "client.example.org", "192.0.2.7"), conn, SMFIR_CONTINUE, "the connection")
  said(mt.helo(conn, "client.example.org"), conn, SMFIR_CONTINUE, "HELO")
end

mt.echo("negotiation")
local conn = open()
for _, action in ipairs { SMFIF_ADDHDRS, SMFIF_CHGHDRS, SMFIF_CHGBODY, SMFIF_ADDRCPT, SMFIF_DELRCPT, SMFIF_QUARANTINE } do
  check(mt.test_action(conn, action), "an action was not asked for")
end
for _, option in ipairs { SMFIP_NOCONNECT, SMFIP_NOHELO, SMFIP_NOMAIL, SMFIP_NORCPT, SMFIP_NOBODY, SMFIP_NOHDRS, SMFIP_NOEOH } do
  check(not mt.test_option(conn, option), "an event is not wanted")
end

mt.echo("no edits")
client(conn)
message(conn, "<plain@example.org>", "body\r\n")
said(mt.eom(conn), conn, SMFIR_CONTINUE, "the end")
for _, kind in ipairs { MT_HDRADD, MT_HDRINSERT, MT_HDRCHANGE, MT_HDRDELETE, MT_BODYCHANGE, MT_QUARANTINE } do
  check(not mt.eom_check(conn, kind), "an edit that nobody asked for")
end
check(not mt.eom_check(conn, MT_RCPTDELETE, "<gone@example.net>"), "a recipient was removed")

mt.echo("edits of another message on the same connection")
message(conn, "<edits@example.org>", "body\r\n")
said(mt.eom(conn), conn, SMFIR_CONTINUE, "the end")
check(mt.eom_check(conn, MT_HDRDELETE, "A"), "nothing was deleted")
check(mt.eom_check(conn, MT_HDRCHANGE, "A", " changed"), "nothing was changed")
check(mt.eom_check(conn, MT_HDRINSERT, "X-Top", " first", 1), "nothing was put on top")
check(mt.eom_check(conn, MT_HDRINSERT, "X-Client", " client.example.org [192.0.2.7]"), "the client is another one")
check(mt.eom_check(conn, MT_BODYCHANGE, "BODY\r\n"), "the body is another one")
check(mt.eom_check(conn, MT_RCPTADD, "<added@example.net>"), "nobody was added")
check(mt.eom_check(conn, MT_RCPTDELETE, "<gone@example.net>"), "nobody was removed")
check(not mt.eom_check(conn, MT_QUARANTINE), "it is held")

mt.echo("a message that is left in the middle")
message(conn, "<edits@example.org>", "half of it")
check(mt.abort(conn) == nil, "the abort")

mt.echo("quarantine: on a connection of its own, for edits are remembered as long as that")
mt.disconnect(conn)
conn = open()
client(conn)
message(conn, "<hold@example.org>", "body\r\n")
said(mt.eom(conn), conn, SMFIR_CONTINUE, "the end")
check(mt.eom_check(conn, MT_QUARANTINE, "held here"), "it is not held")

mt.echo("refusals")
said(mt.mailfrom(conn, "<mail@example.org>"), conn, SMFIR_REPLYCODE, "MAIL")
said(mt.mailfrom(conn, "<a@example.org>"), conn, SMFIR_CONTINUE, "MAIL")
said(mt.rcptto(conn, "<nobody@example.net>"), conn, SMFIR_REPLYCODE, "RCPT")
said(mt.rcptto(conn, "<b@example.net>"), conn, SMFIR_CONTINUE, "another RCPT")
message(conn, "<end@example.org>", "body\r\n")
said(mt.eom(conn), conn, SMFIR_REPLYCODE, "the end")
check(mt.eom_check(conn, MT_SMTPREPLY, "451", "4.7.1", "later"), "other words at the end")
message(conn, "<lost@example.org>", "body\r\n")
said(mt.eom(conn), conn, SMFIR_DISCARD, "the end")
mt.disconnect(conn)

mt.echo("another client, who is cut off")
conn = open()
client(conn)
message(conn, "<plain@example.org>", "body\r\n")
mt.disconnect(conn, false)
