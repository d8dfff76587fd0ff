-- score.lua: acts on the total of points that earlier filters gave; put it last in the chain
local opt = options {
  tag        = 5,
  quarantine = optional "number", -- needs the chain's `quarantine` backend
  reject     = 15,
  text       = "554 5.7.1 Message refused: score %.1f",
}

function on.headers(s, m)
  local total = m.total
  if total >= opt.reject then return reject(opt.text, total) end
  if opt.quarantine and total >= opt.quarantine then return quarantine(("score %.1f"):format(total)) end
  m.headers:remove "X-Spam-Flag" -- remove what the client sent
  m.headers:remove "X-Spam-Score"
  if total >= opt.tag then m.headers:set("X-Spam-Flag", "YES") end
  if total ~= 0 then m.headers:set("X-Spam-Score", ("%.1f"):format(total)) end
end

function on.message(s, m) -- points from body and message hooks: too late to add a field, but not to refuse
  if m.total >= opt.reject then return reject(opt.text, m.total) end
end
