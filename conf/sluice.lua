-- Every directive of Sluice, with its default and why it is there. Lines that begin with "--" have no default, or need a file
-- of yours. Start from minimal.lua; come here for what else can be said. `sluice check -c FILE` tells every mistake with its line,
-- `sluice check --defaults` prints this as a list.
--
-- The file is Lua, but only as data: directives, env("NAME", "default"), file "PATH" (its text), include "PATH" (also "conf.d/*.lua"),
-- credential "NAME" (the path of a secret that systemd gave us: for certificate and key, or file(credential "NAME") for its text).
-- Paths are relative to the folder of this file. Names may be used before they are defined.
-- Durations: "30s", "1h30m", "500ms". Sizes: 1024, "256K", "50M".

-- hostname "mx1.example.org"           -- our name in banners, EHLO and Received: that of the machine
workers "auto"                          -- threads; workers(4) for four
-- user "sluice"                        -- who we become once all ports are bound; only when started as root. It must be able to read
                                        -- this file, scripts and keys: they are read again by a reload
-- control "/run/sluice/control"       -- the socket that sluice reload, drain, status and upgrade talk to
-- module "/usr/lib/sluice/x.so"        -- filters from a shared object, built against sluice/filter.h

dns {
    -- servers = { "127.0.0.1" },       -- with or without ":53": those of /etc/resolv.conf
}

log {
    to = "stderr",                      -- or "syslog", or the path of a file (opened anew when it was renamed); docs/log.md
    facility = "mail",                  -- of syslog
    format = "auto",                    -- logfmt, without the time where the journal or syslog keeps it; or "logfmt", "json"
    level = "info",                     -- debug, info, warning, error; lines of mail are always written
    subject = false,                    -- the Subject of messages is nobody's business
}

-- For every listener; a listener may have its own limits { } and timeouts { } with some of these.
limits {
    size = "50M",                       -- of a message, told by SIZE; 0: none
    header_size = "256K",               -- of the header section; never above size
    hold_memory = "256K",               -- held content of a transaction, then an unlinked file
    memory = "1G",                      -- of a worker; over it MAIL hears 452
    min_rate = 500,                     -- octets a second in content, over 30 s: slower is an attack; 0: none
    connections = 10000,                -- in total; further ones wait
    connections_per_client = 100,       -- from one address; 0: any
    recipients = 1000,                  -- accepted per transaction
    rcpt_commands = 10000,              -- said per transaction, refused ones too, then 421
    messages = 0,                       -- per session; 0: any
    errors = 20,                        -- commands refused for good (5yz), then 421
    junk = 100,                         -- NOOP, RSET, VRFY between two messages; 0: any
    line = 4096,                        -- octets of a command line
    hops = 100,                         -- Received fields: more is a loop
    loops = 5,                          -- Received fields of ours: more is a loop
    held = "4G",                        -- held content of all transactions together, memory and files; over it 452
    auth_failures = 3,                  -- AUTH refused, then 421
    stress = 80,                        -- percent of connections, memory or descriptors in use: timeouts and budgets shrink; 0: never
}

timeouts {
    -- the client (RFC 5321 4.5.3.2)
    command = "5m",                     -- its next command
    data = "3m",                        -- its next octets of content
    line = "60s",                       -- the rest of a command, once its first octet is here
    stress = "10s",                     -- what command, line and data shrink to under stress
    proxy = "5s",                       -- the PROXY header, from the accept on
    handshake = "30s",                  -- TLS
    write = "5m",                       -- it takes no octet of our reply
    greeting = 0,                       -- the banner is kept back so long, to catch early talkers
    -- the backend
    connect = "30s",                    -- until it is connected
    banner = "60s",                      -- its banner
    helo = "60s",                        -- its reply to EHLO, STARTTLS and XCLIENT
    mail = "5m",                        -- its reply to MAIL
    rcpt = "5m",                        -- its reply to RCPT
    data_reply = "2m",                  -- its reply to DATA
    block = "3m",                       -- it takes no octet of content
    end_reply = "590s",                 -- its last reply, counted from the client's end: clients wait 600 s
    end_by = "240s",                    -- after the client's end: our end is not said any more, so that nobody hears both yes and no
    pool_idle = "60s",                  -- an idle connection is kept
    pool_age = "10m",                   -- any connection is kept
    -- ourselves
    drain = "30s",                      -- at the end, sessions may end by themselves
}

-- tls "public" {
--     certificate = "/etc/letsencrypt/live/mx1.example.org",   -- a folder with fullchain.pem and privkey.pem, or a PEM file
--     key = "/etc/ssl/private/mx1.key",                        -- when it is not in the file or folder of the certificate
--     -- { certificate = "...", key = "..." },                 -- further names, by SNI
--     minimum = "TLSv1.2",             -- or "TLSv1.3"
--     ciphers = "ECDHE+AESGCM",        -- of TLS 1.2; unsaid: those with forward secrecy and AEAD, AES-128 first
--     prefer_server = true,            -- our order of ciphers, not the client's
--     ca = "/etc/ssl/certs/ours.pem",  -- whom we trust: the system's authorities
--     client = "none",                 -- "optional", "required": whether clients are asked for a certificate
-- }

backend "postfix" {
    "127.0.0.1:10025",                  -- or "inet6:[::1]:10025", "unix:/run/x", "maildir:/var/mail/x"
    -- { "127.0.0.1:10026", weight = 2, backup = false },  -- further servers; a backup serves while all others are down
    protocol = "smtp",                  -- "lmtp": each recipient has its own last reply
    separate = false,                   -- true: one recipient per transaction, so that no last reply is folded
    balance = "least_connections",      -- or "round_robin": which of several servers is next
    identity = "none",                  -- "xclient", "xforward", "proxy" (v2), "proxy_v1": how it learns who the client is
    identity_required = true,           -- 451 while it does not take that (XCLIENT, PROXY): it would take everybody for us
    tls = "off",                        -- "opportunistic", "verified", or the name of a tls block
    -- tls_name = "mx.example.org",     -- the name to ask for and to verify: the host of the address
    tls_implicit = false,               -- TLS from the first octet
    -- helo = "mx1.example.org",        -- what we call ourselves: hostname
    pool = 16,                          -- idle connections kept per worker, more for a second; 0: none
    pool_uses = 100,                    -- transactions per connection
    connections = 0,                    -- most to one server, of all workers; 0: any
    wait = "10s",                       -- for a connection, when as many as allowed are in use; then 451
    health = "30s",                     -- between two health checks of each server, by EHLO; 0: none
    rise = 2,                           -- good checks that bring a server back
    fall = 3,                           -- failures in a row that take a server out
    chunking = "auto",                  -- BDAT, where it offers CHUNKING and it saves work; or "off"
}

-- route "domains" {                    -- by = "rcpt", or "from"
--     by = "rcpt",
--     ["corp.example.com"] = "exchange", [".corp.example.com"] = "exchange", ["*"] = "postfix",
-- }

store "default" {                       -- where filters count and remember; this one is there unsaid
    "memory",
    size = "64M",                       -- over it, the nearest to expiry go
    prefix = "",                        -- in front of all keys
    timeout = "500ms",                  -- of an operation
}

chain "inbound" {
    observe = false,                    -- true: log what the filters would do, do nothing
    -- quarantine = "jail",             -- the backend for quarantined mail
    -- only = { auth = false },         -- the chain runs only when all of these hold
    -- except = { client = { "192.0.2.0/24" } }, -- and not when all of these do

    -- filter "access" {
    --     client = "/etc/postfix/client_access.cidr",  -- an option of the filter; what follows every filter has
    --     timeout = "30s",             -- of a call of any hook but message
    --     message_timeout = "240s",    -- of the message hook
    --     on_error = "defer",          -- or "continue", "reject": when the filter fails
    --     observe = false,             -- log its verdict, do not apply it
    --     name = "access",             -- in log lines: the file name, then -2, -3
    --     prefix = "access",           -- of its keys in stores: the file name
    --     only = { listen = { "mx" }, tls = true },
    --     except = { from = { "example.org" }, rcpt = { "postmaster@" } },
    --     memory = "16M",              -- of a session in a script, 256K to 4G; all of a worker together: four times; scripts only
    --     cpu = "100ms",               -- of a script: of a call between two waits, 1ms to 60s; scripts only
    -- },
}

listen "mx" {
    ":25",                              -- both IP families; or "192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/sluice"
    backend = "postfix",                -- may be left out when there is only one
    -- route = "domains",               -- backend is then for whom it does not know, and who is asked for AUTH
    chain = "inbound",                  -- left out: no filter
    -- tls = "public",                  -- left out: STARTTLS is not offered
    implicit = false,                   -- true: TLS from the first octet (port 465)
    require_tls = false,                -- true: 530 to mail before STARTTLS
    auth = "off",                       -- "offer", "require": AUTH, relayed to the backend
    auth_without_tls = false,           -- true: in the clear too
    -- proxy = { "10.0.0.0/8" },        -- every connection from there begins with a PROXY protocol header
    -- xclient = { "127.0.0.1" },       -- who may say XCLIENT
    -- xforward = { "127.0.0.1" },      -- who may say XFORWARD
    chunking = true,                    -- BDAT is offered
    syntax = "lenient",                 -- commands as Postfix takes them, brought into form; or "strict": RFC 5321 to the letter
    bare = "reject",                    -- or "normalize": a CR or LF that stands alone is made a line end
    -- received = true,                 -- add our Received field: false when the backend is told by XCLIENT
    -- hostname = "mx1.example.org",    -- our name here
    -- limits { size = "10M" },         -- for this listener only
    -- timeouts { command = "1m" },
}

-- milter "mta" {                       -- Postfix and Sendmail come in here to have a chain judge their mail (docs/milter.md); such a
--     "127.0.0.1:10028",               -- configuration needs no backend, and no listen; or "unix:/run/sluice/milter"
--     chain = "inbound",               -- left out: no filter
--     clients = { "127.0.0.0/8", "::1" }, -- where MTAs are believed
--     mode = "0660",                   -- of a unix socket
--     group = "postfix",               -- of a unix socket: that of the MTA
--     connections = 1000,              -- of a worker: connections beyond that many are kept, and their MAIL is answered with 451
--     progress = "20s",                -- between two signs of life while the end of a message waits for a filter
--     limits { header_size = "256K", hold_memory = "256K", recipients = 10000 },
--     timeouts {
--         packet = "60s",              -- the rest of a packet, and the next one of a message's content
--         idle = "2h",                 -- the MTA's next packet otherwise
--         write = "60s",               -- it takes no octet of our answer
--         command = "25s",             -- filters have to answer by then: below milter_command_timeout
--         end_by = "240s",             -- the same at the end of a message: below milter_content_timeout
--     },
-- }
