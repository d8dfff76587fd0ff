"""AUTH through the gateway: a real Postfix with Dovecot's SASL behind it, real clients in front. Postfix' own log says whom it believes."""
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
import time

import pytest
from gateway import Gateway, certificate, free_port
from private import Postfix

needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix") or not shutil.which("dovecot"),
                           reason="needs root, Postfix and Dovecot")


class Dovecot:
    """Its auth service alone, at DIR/auth."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-dovecot-")
        os.chmod(self.folder, 0o755)
        with open(self.folder + "/users", "w") as f:
            f.write("ann:{PLAIN}secret:::::: \nbob:{PLAIN}open sesame:::::: \n")
        with open(self.folder + "/dovecot.conf", "w") as f:
            f.write("""base_dir = {0}/run
state_dir = {0}/state
log_path = {0}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256 cram-md5
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {0}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {0}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
""".format(self.folder))
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.folder + "/dovecot.conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.folder + "/auth"):
            assert time.monotonic() < deadline and self.process.poll() is None, open(self.folder + "/log").read()
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def gate():
    dovecot = Dovecot()
    postfix = Postfix(more="""smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %s/auth
smtpd_sasl_security_options = noanonymous
smtpd_client_auth_rate_limit = 0
""" % dovecot.folder)
    cert = certificate()
    submission, submissions = free_port(), free_port()
    g = Gateway("""hostname "mx.test"
tls "t" {{ certificate = "{0}/cert.pem", key = "{0}/key.pem" }}
backend "postfix" {{ "127.0.0.1:{1}", identity = "xclient" }}
chain "c" {{ filter "seen.lua" {{ }} }}
listen "submission" {{ "127.0.0.1:{2}", tls = "t", auth = "require", chain = "c" }}
listen "submissions" {{ "127.0.0.1:{3}", tls = "t", implicit = true, auth = "require", chain = "c" }}
""".format(cert, postfix.port, submission, submissions),
                files={"seen.lua": 'function on.auth(s, user, method) log.info("seen " .. user .. " " .. method) end\n'}).start()
    g.postfix, g.submission, g.submissions, g.certificate = postfix, submission, submissions, cert + "/cert.pem"
    yield g
    wrong = g.stop()
    postfix.stop()
    dovecot.stop()
    assert not wrong


def believed(g, user, method, since):
    assert g.postfix.wait_log(r"sasl_method=%s, sasl_username=%s\b" % (re.escape(method), user), since + 1, 20), g.postfix.log()[-3000:]


def count(g, user, method):
    return len(re.findall(r"sasl_method=%s, sasl_username=%s\b" % (re.escape(method), user), g.postfix.log()))


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@needs
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib(gate, method):
    before = count(gate, "bob", method)
    with smtplib.SMTP("127.0.0.1", gate.submission, timeout=30) as s:
        s.starttls(context=trusting())
        s.ehlo()
        assert method in s.esmtp_features["auth"].split()
        s.user, s.password = "bob", "open sesame"
        call = {"PLAIN": s.auth_plain, "LOGIN": s.auth_login, "CRAM-MD5": s.auth_cram_md5}[method]
        code, _ = s.auth(method, call, initial_response_ok=method == "PLAIN")
        assert code == 235
        for _ in range(3):
            s.sendmail("bob@example.net", ["x@example.net"], b"Subject: x\r\n\r\nhello\r\n")
    believed(gate, "bob", method, before)
    assert "seen bob " + method in gate.log()
    assert re.search(r"msg id=.* auth=bob from=<bob@example.net>.* verdict=forwarded", gate.log())


@needs
def test_a_wrong_password_is_refused_in_the_backends_words(gate):
    with smtplib.SMTP_SSL("127.0.0.1", gate.submissions, timeout=30, context=trusting()) as s:
        with pytest.raises(smtplib.SMTPAuthenticationError) as e:
            s.login("ann", "wrong")
        assert e.value.smtp_code == 535
        with pytest.raises(smtplib.SMTPSenderRefused):
            s.sendmail("ann@example.net", ["x@example.net"], b"x")
    assert re.search(r"event=auth id=.* user=ann method=\S+ code=535", gate.log())


@needs
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks(gate, method):
    before = count(gate, "ann", method)
    done = subprocess.run(["swaks", "--server", "127.0.0.1:%d" % gate.submission, "--tls", "--auth", method, "--auth-user", "ann",
                           "--auth-password", "secret", "--from", "ann@example.net", "--to", "x@example.net", "--timeout", "20"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    believed(gate, "ann", method, before)


@needs
def test_curl(gate):
    before = count(gate, "ann", "PLAIN")
    done = subprocess.run(["curl", "-sS", "--url", "smtps://127.0.0.1:%d" % gate.submissions, "-k", "--user", "ann:secret", "--mail-from",
                           "ann@example.net", "--mail-rcpt", "x@example.net", "--login-options", "AUTH=PLAIN", "-T", "-", "--max-time", "30"],
                          input="Subject: x\r\n\r\nhello\r\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    believed(gate, "ann", "PLAIN", before)


@needs
@pytest.mark.parametrize("method", ["plain", "login", "cram-md5", "scram-sha-256"])
def test_msmtp(gate, method):
    before = count(gate, "ann", method.upper())
    done = subprocess.run(["msmtp", "--host=127.0.0.1", "--port=%d" % gate.submission, "--tls=on", "--tls-starttls=on", "--tls-certcheck=off",
                           "--auth=" + method, "--user=ann", "--passwordeval=echo secret", "--from=ann@example.net", "--timeout=20",
                           "--domain=client.test", "x@example.net"], input="Subject: x\n\nhello\n", capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, HOME="/nonexistent"))
    if "not supported" in done.stderr and "library" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    believed(gate, "ann", method.upper(), before)
    if method == "scram-sha-256":
        assert "seen ann SCRAM-SHA-256" in gate.log()


@needs
def test_nothing_secret_is_logged(gate):
    for secret in ("secret", "sesame", "AGFubgBzZWNyZXQ", "c2VjcmV0", "b3BlbiBzZXNhbWU"):
        assert secret not in gate.log()
