-- greylist.lua: defer the first attempt of an unknown network, sender and recipient
local opt = options {
  delay        = duration "5m",
  retry_window = duration "2d",
  remember     = duration "35d",
  skip         = optional "table", -- networks, domains, addresses
  store        = "default",
  text         = "451 4.7.1 Greylisted, please try again in %d seconds",
}
local st = store(opt.store)

function on.rcpt(s, m, to)
  if s.auth or (opt.skip and (opt.skip:has(s.ip) or opt.skip:has(s.rdns) or opt.skip:has(to))) then return end
  local net = s.ip:network(24, 64)
  if st:get("ok:" .. net) then return end -- this network has proved that it tries again
  local key = hash.short(net, m.from.addr:lower(), to.addr:lower())
  local first = st:get(key)
  if not first then
    first = now()
    st:set(key, first, opt.retry_window)
  end
  local left = first + opt.delay - now()
  if left > 0 then return defer(opt.text, math.ceil(left)) end
  st:set("ok:" .. net, 1, opt.remember)
  m.headers:add("X-Greylist", ("delayed %d seconds by %s"):format(now() - first, s.hostname))
end
