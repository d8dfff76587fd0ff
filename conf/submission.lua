-- Submission for users: port 587 with STARTTLS and port 465 with TLS from the first octet. AUTH is relayed to Postfix, which knows the users
-- (smtpd_sasl_auth_enable = yes) and trusts us with the client's name and address (smtpd_authorized_xclient_hosts = 127.0.0.1).
-- local_header_rewrite_clients = permit_sasl_authenticated: Postfix completes header fields only for clients that have authenticated.
-- Passwords pass by unseen; filters and the log know the name.
hostname "mail.example.org"
user "nobody"

tls "public"      { certificate = env("SLUICE_CERTIFICATE", "/etc/letsencrypt/live/mail.example.org") }
backend "postfix" { "127.0.0.1:10587", identity = "xclient" }
chain "outbound"  { filter "ratelimit" { by = "user", count = "messages", limit = 200, window = "1h" },
                    filter "clean_headers.lua" { remove = { "X-Originating-IP", "User-Agent" } } }

listen "submission"  { ":587", tls = "public", auth = "require", chain = "outbound" }
listen "submissions" { ":465", tls = "public", implicit = true, auth = "require", chain = "outbound" }
