-- clean_headers.lua: removes, renames and adds fields, and can remove Received fields that show internal hosts
local opt = options {
  remove           = { "X-Originating-IP" },
  rename           = map "text", -- ["X-Mailer"] = "X-Original-Mailer"
  add              = map "text", -- ["X-Scanned-By"] = "mx1"
  replace_received = false,      -- true: all Received fields are removed; the gateway adds its own after the filters
}

function on.headers(s, m)
  local h = m.headers
  for _, name in ipairs(opt.remove) do h:remove(name) end
  for old, new in pairs(opt.rename) do h:rename(old, new) end
  if opt.replace_received then h:remove "Received" end
  for _, name in ipairs(keys(opt.add)) do h:add(name, opt.add[name]) end
end
