-- ratelimit.lua: limits messages and different recipients per user, or per client network if there is no user
local opt = options {
  messages   = 100,
  recipients = 500, -- different ones, 4096 at most
  window     = duration "1h",
  exempt     = cidr { "127.0.0.0/8", "::1" },
  store      = "default",
  action     = one_of { "defer", "reject", "tag" },
  text       = "4.7.1 Sending limit reached, try again in %d seconds",
}
local st = store(opt.store)

function on.mail(s, m, from)
  if opt.exempt:has(s.ip) then return end
  m.vars.who = s:who()
  local r = st:rate("msg:" .. m.vars.who, opt.messages, opt.window)
  if not r.ok then return act(opt, r.retry_after) end
end

function on.rcpt(s, m, to)
  local who = m.vars.who
  if not who or to.postmaster or st:distinct("rcpt:" .. who, to.key, opt.window) <= opt.recipients then return end
  return act(opt, opt.window)
end
