-- dnsbl.lua: weighted DNS lists of clients; from a total of `limit` points `action` applies, from `tag` points a field is added
local opt = options {
  zones  = { ["zen.spamhaus.org"] = 5, ["bl.spamcop.net"] = 3, ["list.dnswl.org=127.0.[2..20].[1..3]"] = -4 }, -- after "=": the codes that count, as in Postfix
  limit  = 5, tag = 3, wait = duration "3s",
  action = one_of { "reject", "defer", "tag" },
  text   = "5.7.1 Service unavailable; client [%s] blocked by %s",
}

local function ask(s)
  local total, hits = 0, {}
  for zone, r in pairs(dns.bl(s.ip, keys(opt.zones), opt.wait)) do -- queries all at once; a zone with r.error gives no points
    total = total + (r.listed and opt.zones[zone] or 0)
    if r.listed then table.insert(hits, (zone:gsub("=.*", ""))) end
  end
  s.vars.total, s.vars.hits = total, table.concat(hits, ", ")
end

function on.rcpt(s, m, to)
  if s.auth or s.ip.private or to.postmaster then return end -- RFC 5321 4.5.1
  if not s.vars.total then ask(s) end
  if s.vars.total >= opt.limit then return act(opt, s.ip, s.vars.hits) end
end

function on.headers(s, m)
  m.headers:remove "X-DNSBL-Score" -- remove what the client sent
  if (s.vars.total or 0) >= opt.tag then m.headers:add("X-DNSBL-Score", s.vars.total) end
  if s.vars.total then m:score(s.vars.total, "DNSBL") end
end
