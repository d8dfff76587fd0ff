-- subject_tag.lua: puts a word before the subject of mail from outside
local opt = options {
  tag    = "[EXT]",
  inside = list "text", -- domains whose mail is not tagged
}
local inside = set(opt.inside, { lower = true })

function on.headers(s, m)
  if s.auth or inside:has(m.from.domain) then return end
  local subject = m.headers:decoded "Subject" or ""
  if subject:find(opt.tag, 1, true) then return end -- tagged already
  m.headers:prepend("Subject", opt.tag)             -- the octets of the sender stay unchanged
end
