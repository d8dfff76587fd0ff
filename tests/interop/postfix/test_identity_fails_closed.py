"""A real Postfix that trusts our address and does not take what `identity` says: nothing is forwarded, for everybody would be local to it."""
import os
import shutil
import smtplib

import pytest
from gateway import Gateway, free_port
from private import Postfix

needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix"), reason="needs root and Postfix")
TRUSTING = "smtpd_authorized_xclient_hosts = 192.0.2.1\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"


def answers(identity, more=""):
    postfix, port = Postfix("discard", TRUSTING), free_port()
    g = Gateway('hostname "mx.test"\ncontrol "@DIR@/control"\nbackend "postfix" { "127.0.0.1:%d", identity = "%s"%s }\n'
                'listen "l" { "127.0.0.1:%d", backend = "postfix" }\n' % (postfix.port, identity, more, port)).start()
    codes = []
    try:
        for _ in range(4):
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as s:
                s.ehlo("c.test")
                s.mail("spammer@bad.example")
                codes.append(s.rcpt("victim@elsewhere.example")[0])
        return codes, g.log(), g.ask("status")[1], postfix.log()
    finally:
        wrong = g.stop()
        postfix.stop()
        assert wrong == ""


@needs
@pytest.mark.parametrize("identity", ["xclient", "proxy", "proxy_v1"])
def test_nothing_is_forwarded_and_log_and_status_say_why(identity):
    codes, log, status, there = answers(identity)
    assert codes == [451] * 4, (codes, log)
    assert "client=" not in there
    why = {"xclient": "does not offer XCLIENT to us", "proxy_v1": "does not understand our PROXY header"}.get(identity, "")
    assert why in log and why in status, (log, status)
    assert "last failure: " in status


@needs
def test_it_is_forwarded_where_that_is_said():
    codes, log, _, _ = answers("xclient", ", identity_required = false")
    assert codes == [250] * 4 and "identity_required is off" in log, (codes, log)
