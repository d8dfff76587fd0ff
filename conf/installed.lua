-- What `cmake --install` and packages put at /etc/sluice/sluice.lua: runs as it is, under the unit or by hand, and touches no port 25.
-- Mail that comes to 127.0.0.1:2525 goes to the Postfix at 127.0.0.1:10025 (docs/postfix.md has the lines for it); the filters
-- only watch and log what they would do. Then: another address for `listen`, a certificate, filters without `observe`. Every directive: examples/sluice.lua
-- beside the documentation, or sluice check --defaults. Check: sluice check; see: sluice check --explain; ask the backend: sluice check --probe.
hostname "mx1.example.org"              -- what MX records and certificates say
control "/run/sluice/control"           -- sluice reload, status, drain, upgrade

-- No `user` here: the unit of systemd runs it as "sluice". By hand: start it as root with user "sluice", who must be able to read the key.
-- tls "public" { certificate = "/etc/letsencrypt/live/mx1.example.org" }

backend "postfix" { "127.0.0.1:10025", identity = "xclient" }

chain "inbound" {
    filter "clean_headers.lua" { remove = { "X-Originating-IP" }, observe = true },
    filter "ratelimit.lua"     { messages = 200, window = "1h", observe = true },
}

listen "mx" { "127.0.0.1:2525", backend = "postfix", chain = "inbound" } -- in production: ":25", tls = "public"
