-- One of several gateways behind a load balancer that speaks the PROXY protocol (HAProxy: server ... send-proxy-v2), in front of several
-- servers. Connections to them are kept and used by one client after another; XFORWARD tells their logs who it was
-- (smtpd_authorized_xforward_hosts). One domain lives elsewhere.
hostname "mx.example.org"
user "nobody"
control "/run/sluice/control"           -- sluice reload, drain, status

tls "public"       { certificate = env("SLUICE_CERTIFICATE", "/etc/letsencrypt/live/mx.example.org") }
backend "postfix"  { { "10.0.0.11:25", weight = 2 }, "10.0.0.12:25", { "10.0.1.11:25", backup = true },
                     identity = "xforward", connections = 50, pool = 20 }
backend "exchange" { "exchange.corp.example.com:25", tls = "opportunistic" }
route "domains"    { ["corp.example.com"] = "exchange", [".corp.example.com"] = "exchange", ["*"] = "postfix" }
chain "inbound"    { filter "access" { client = { ["192.0.2.66"] = "REJECT" } } }

listen "mx" { ":25", tls = "public", route = "domains", backend = "postfix", chain = "inbound",
              proxy = { "10.0.0.0/24" } }   -- the load balancers; whoever else connects is taken for what it is
