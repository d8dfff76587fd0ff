-- The least that works: every mail that comes in at port 25 goes to Postfix at port 10025 as it came.
-- Postfix trusts us with the client's name and address when it has
--     smtpd_authorized_xclient_hosts = 127.0.0.1
--     local_header_rewrite_clients =
-- for that port; without the second line it edits header fields of mail from outside as if it came from its own host. Check this file with: sluice check -c conf/minimal.lua
hostname "mx1.example.org"
user "nobody"

backend "postfix" { "127.0.0.1:10025", identity = "xclient" }
listen "mx"       { ":25", backend = "postfix" }
