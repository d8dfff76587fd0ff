-- What contrib/quickstart.sh runs: everything on this machine, nothing that needs root.
--     SLUICE_DEMO      the folder with cert.pem, key.pem and, unless there is a backend, the maildir
--     SLUICE_BACKEND   "HOST:PORT" of an SMTP server that trusts us with XCLIENT
--     SLUICE_PORT      where to listen (2525)
local demo = env("SLUICE_DEMO", "demo")
local server = env("SLUICE_BACKEND", "")

hostname "demo.localhost"
workers(2)

tls "demo" { certificate = demo .. "/cert.pem", key = demo .. "/key.pem" }

if server ~= "" then
    backend "inner" { server, identity = "xclient" }
else
    backend "inner" { "maildir:" .. demo .. "/maildir" }
end

chain "demo" {
    filter "access" {
        client = { ["192.0.2.66"] = "REJECT blocked client" },
        sender = { ["spam@example.com"] = "REJECT blocked sender" },
    },
    filter "ratelimit.lua" { messages = 10, window = "10m", exempt = { "192.0.2.0/24" } }, -- by default 127.0.0.1 is exempt
    filter "subject_tag.lua" { tag = "[demo]" },
    filter "clean_headers.lua" { remove = { "X-Originating-IP" } },
}

listen "demo" { "127.0.0.1:" .. env("SLUICE_PORT", "2525"), tls = "demo", backend = "inner", chain = "demo" }
