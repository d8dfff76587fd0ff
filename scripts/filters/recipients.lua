-- recipients.lua: accepts only the recipients in a table, which is reread when its file changes
local opt = options {
  allow   = required "table", -- "user@example.org OK", "@example.org OK"
  domains = required(list "text"),
  most    = 5,                -- unknown recipients in a session; after that the connection is closed
  action  = one_of { "reject", "defer" },
  text    = "5.1.1 <%s>: user unknown",
}
local ours = set(opt.domains, { lower = true })

function on.rcpt(s, m, to)
  if s.auth or (to.postmaster and (to.domain == "" or ours:has(to.domain))) then return end -- RFC 5321 4.5.1
  if not ours:has(to.domain) then return reject("550 5.7.1 Relaying denied for <%s>", to) end
  if opt.allow:has(to) then return end -- user+ext@, user@, @domain
  s.vars.bad = (s.vars.bad or 0) + 1
  if s.vars.bad > opt.most then return drop "421 4.7.0 Too many unknown recipients" end
  return act(opt, to)
end
