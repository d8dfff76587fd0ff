-- greylist.lua: defers the first attempt of an unknown combination of client network, sender and recipient
local opt = options {
  delay = duration "5m", retry_window = duration "2d", remember = duration "35d",
  skip  = optional "table", -- networks, domains, addresses
  pools = { "amazonses.com", "apple.com", "facebook.com", "gmx.net", "google.com", "icloud.com", "kundenserver.de", "mailchimp.com",
    "mailgun.net", "mcsv.net", "messagelabs.com", "mimecast.com", "outlook.com", "pphosted.com", "sendgrid.net", "yahoo.com" },
  store = "default",
  text  = "451 4.7.1 Greylisted, please try again in %d seconds",
}
local st, pools = store(opt.store), set(opt.pools, { lower = true })

local function origin(s) -- a large provider retries from another network, so its clients are identified by their verified name
  local name = s.rdns or (not s.ip.private and dns.fcrdns(s.ip, { timeout = "3s" })) or ""
  while name ~= "" and not pools:has(name) do name = name:match "%.(.+)" or "" end
  return name ~= "" and name or s.ip:network(24, 64)
end

function on.rcpt(s, m, to)
  if s.auth or to.postmaster or (opt.skip and (opt.skip:has(s.ip) or opt.skip:has(s.rdns) or opt.skip:has(to))) then return end
  s.vars.from = s.vars.from or origin(s)
  if st:get("ok:" .. s.vars.from) then return end -- this origin has retried before
  local key = hash.short(s.vars.from, m.from.key, to.key)
  if st:add(key, now(), opt.retry_window) then return defer(opt.text, opt.delay) end
  local waited = now() - (st:get(key) or now())
  if waited < opt.delay then return defer(opt.text, math.ceil(opt.delay - waited)) end
  st:set("ok:" .. s.vars.from, 1, opt.remember)
  m.headers:add("X-Greylist", ("delayed %d seconds by %s"):format(waited, s.hostname))
end
