"""testssl.sh against STARTTLS and implicit TLS: nothing above LOW but what a self-made certificate earns, no vulnerability, and resumption."""
import json
import os
import shutil
import subprocess

import pytest
from gateway import Gateway, certificate, free_port

SCRIPT = shutil.which("testssl") or shutil.which("testssl.sh")
# of the certificate alone: nobody vouches for it, nobody can revoke it, it is short-lived
OF_THE_CERTIFICATE = ("cert_", "DNS_CAArecord", "OCSP_stapling")
SEVERE = ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")


def start(g, name, port, *checks):
    words = [SCRIPT, "--quiet", "--color", "0", "--warnings", "off", *checks, "--jsonfile", "%s/%s.json" % (g.folder, name)]
    words += ["--starttls", "smtp"] if name.startswith("starttls") else []
    return subprocess.Popen(words + ["127.0.0.1:%d" % port], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd=g.folder)


def findings(g, name, process):
    said, _ = process.communicate(timeout=300)
    with open("%s/%s.json" % (g.folder, name)) as f:
        return json.load(f), said


def resumption(g, name, port, found):
    """It reads the ticket of TLS 1.3 only if that comes before it has closed the connection, a race on a busy machine; without
    one it says that it could not connect. Asked again, it has to see tickets at work."""
    for again in range(5):
        raced = [one for one in found if one["id"] == "sessionresumption_ticket" and "connect problem" in one["finding"]]
        if not raced:
            break
        more = "%s.%d" % (name, again)
        found = [one for one in found if one not in raced] + findings(g, more, start(g, more, port, "--server-defaults"))[0]
    return found


@pytest.mark.skipif(not SCRIPT, reason="needs testssl.sh")
def test_testssl_finds_nothing():
    cert = certificate()
    ports = {"starttls": free_port(), "implicit": free_port()}
    g = Gateway("""hostname "mx.test"
tls "t" {{ certificate = "{0}/cert.pem", key = "{0}/key.pem" }}
backend "b" {{ "maildir:mail" }}
listen "starttls" {{ "127.0.0.1:{1}", tls = "t", limits = {{ connections_per_client = 0 }} }}
listen "implicit" {{ "127.0.0.1:{2}", tls = "t", implicit = true, limits = {{ connections_per_client = 0 }} }}
""".format(cert, *ports.values())).start()
    try:
        running = {}
        for name, port in ports.items():
            running[name] = start(g, name, port, "--protocols", "--server-defaults", "--server-preference", "--fs", "--std",
                                  "--vulnerable")
        for name, process in running.items():
            found, said = findings(g, name, process)
            found = resumption(g, name, ports[name], found)
            seen = {one["id"]: one for one in found}
            assert "TLS1_3" in seen and "heartbleed" in seen, said[-2000:]
            bad = ["%s: %s %s" % (one["id"], one["severity"], one["finding"]) for one in found
                   if (one["severity"] in SEVERE or "VULNERABLE" in one["finding"].replace("not vulnerable", ""))
                   and not one["id"].startswith(OF_THE_CERTIFICATE) and one["id"] != "engine_problem"]  # of the tool itself
            assert not bad, name + ": " + "\n".join(bad)
            assert seen["TLS1_2"]["finding"].startswith("offered") and seen["TLS1_3"]["finding"].startswith("offered")
            assert seen["TLS1"]["finding"] == seen["TLS1_1"]["finding"] == "not offered"
            assert "supported" in seen["sessionresumption_ticket"]["finding"] and "not" not in seen["sessionresumption_ticket"]["finding"]
    finally:
        wrong = g.stop()
    assert not wrong
