"""A real HAProxy in front of the gateway: PROXY protocol v1 and v2, with its own TLS and with TLS passed through."""
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
import time

import pytest
from gateway import Gateway, certificate, free_port, wait_port

needs = pytest.mark.skipif(not shutil.which("haproxy"), reason="needs HAProxy")
PORTS = ("v1", "v2", "terminated", "through", "gate", "secure")


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def pair():
    folder = tempfile.mkdtemp(prefix="sluice-haproxy-")
    cert = certificate()
    port = {name: free_port() for name in PORTS}
    with open(folder + "/both.pem", "w") as f:
        f.write(open(cert + "/cert.pem").read() + open(cert + "/key.pem").read())
    with open(folder + "/haproxy.cfg", "w") as f:
        f.write("""defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen v1
    bind 127.0.0.1:{v1}
    server s 127.0.0.1:{gate} send-proxy
listen v2
    bind 127.0.0.1:{v2}
    server s 127.0.0.1:{gate} send-proxy-v2
listen terminated
    bind 127.0.0.1:{terminated} ssl crt {folder}/both.pem ca-file {cert}/cert.pem verify optional
    server s 127.0.0.1:{gate} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority
listen through
    bind 127.0.0.1:{through}
    server s 127.0.0.1:{secure} send-proxy-v2
""".format(folder=folder, cert=cert, **port))
    g = Gateway("""hostname "mx.test"
tls "t" {{ certificate = "{cert}/cert.pem", key = "{cert}/key.pem" }}
backend "b" {{ "maildir:mail" }}
chain "c" {{ filter "seen.lua" {{ }} }}
listen "gate" {{ "127.0.0.1:{gate}", tls = "t", proxy = {{ "127.0.0.0/8" }}, chain = "c" }}
listen "secure" {{ "127.0.0.1:{secure}", tls = "t", implicit = true, proxy = {{ "127.0.0.0/8" }}, chain = "c" }}
""".format(cert=cert, **port), files={"seen.lua": """function on.mail(s, m, from)
  local t = s.tls
  log.info("seen " .. tostring(s.ip) .. " at " .. s.local_port .. " " .. (t and t.version .. " " .. t.cipher .. " " .. tostring(t.subject) .. " " .. t.sni or "plain"))
end
"""}).start()
    process = subprocess.Popen(["haproxy", "-db", "-f", folder + "/haproxy.cfg"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert wait_port(port["through"])
    g.at = port
    yield g
    process.terminate()
    process.wait(10)
    wrong = g.stop()
    shutil.rmtree(folder, ignore_errors=True)
    assert not wrong


def send(s):
    s.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\nhello\r\n")
    s.quit()


def logged(g, pattern):
    deadline = time.monotonic() + 10
    while not re.search(pattern, g.log()):
        assert time.monotonic() < deadline, g.log()[-2000:]
        time.sleep(0.05)


@needs
@pytest.mark.parametrize("name", ["v1", "v2"])
def test_the_client_behind_the_proxy_is_seen(pair, name):
    client = "127.0.7.%d" % (1 if name == "v1" else 2)
    send(smtplib.SMTP("127.0.0.1", pair.at[name], source_address=(client, 0), timeout=20))
    logged(pair, "seen %s at %d plain" % (client, pair.at[name]))
    logged(pair, r"msg id=\S+ listen=gate client=%s .* verdict=forwarded" % client)


@needs
def test_starttls_goes_through_the_proxy(pair):
    s = smtplib.SMTP("127.0.0.1", pair.at["v2"], source_address=("127.0.7.3", 0), timeout=20)
    s.starttls(context=trusting())
    send(s)
    logged(pair, r"seen 127\.0\.7\.3 at \d+ TLSv1\.3 TLS_")


@needs
def test_tls_that_ends_at_the_proxy_is_told(pair):
    cert = certificate()
    context = trusting()
    context.load_cert_chain(cert + "/cert.pem", cert + "/key.pem")
    s = smtplib.SMTP_SSL("localhost", pair.at["terminated"], source_address=("127.0.7.4", 0), timeout=20, context=context)
    s.ehlo()
    assert not s.has_extn("starttls")
    send(s)
    logged(pair, r"seen 127\.0\.7\.4 at \d+ TLSv1\.3 TLS_\S+ localhost localhost")
    logged(pair, r"client=127\.0\.7\.4 .* tls=TLSv1\.3/TLS_")


@needs
def test_implicit_tls_behind_a_header(pair):
    send(smtplib.SMTP_SSL("127.0.0.1", pair.at["through"], source_address=("127.0.7.5", 0), timeout=20, context=trusting()))
    logged(pair, r"seen 127\.0\.7\.5 at \d+ TLSv1\.3 TLS_")
    logged(pair, r"listen=secure client=127\.0\.7\.5 .* verdict=forwarded")
