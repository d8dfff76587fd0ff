"""LMTP towards a real Dovecot: what each recipient's mailbox says, and the one reply that the client hears of it."""
import os
import re
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time

import pytest
from gateway import Gateway, free_port

needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dovecot") or not os.path.exists("/usr/lib/dovecot/lmtp"),
                           reason="needs root and Dovecot with LMTP")


class Dovecot:
    """LMTP at DIR/lmtp and at a port; ann and bob have mailboxes, full has one that is full, nobody else is known."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-dovecot-")
        os.chmod(self.folder, 0o755)
        with socket.socket() as s:  # not held, as free_port holds it: Dovecot does not share its port
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        os.mkdir(self.folder + "/mail")
        shutil.chown(self.folder + "/mail", "nobody", "nogroup")
        with open(self.folder + "/users", "w") as f:
            f.write("ann:{PLAIN}x::::::\nbob:{PLAIN}x::::::\nfull:{PLAIN}x::::::userdb_quota_rule=*:bytes=1000\n")
        with open(self.folder + "/dovecot.conf", "w") as f:
            f.write("""base_dir = {0}/run
state_dir = {0}/state
log_path = {0}/log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:{0}/mail/%n
mail_plugins = quota
plugin {{
  quota = maildir:User quota
  quota_rule = *:bytes=10M
}}
postmaster_address = postmaster@y.test
hostname = dovecot.test
auth_username_format = %Ln
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {0}/users
}}
userdb {{
  driver = passwd-file
  args = {0}/users
  override_fields = uid=nobody gid=nogroup home={0}/mail/%n
}}
service lmtp {{
  chroot =
  unix_listener {0}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {1}
  }}
}}
service anvil {{
  chroot =
}}
""".format(self.folder, self.port))
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.folder + "/dovecot.conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.answers():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log()
            time.sleep(0.05)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.folder + "/lmtp")
            except OSError:
                return False
        return True

    def log(self):
        with open(self.folder + "/log", errors="replace") as f:
            return f.read()

    def mails(self, user):
        folder = "%s/mail/%s/new" % (self.folder, user)
        return [open(os.path.join(folder, n), "rb").read() for n in sorted(os.listdir(folder))] if os.path.isdir(folder) else []

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module", params=["unix", "tcp"])
def world(request):
    d = Dovecot()
    port = free_port()
    address = "unix:%s/lmtp" % d.folder if request.param == "unix" else "127.0.0.1:%d" % d.port
    g = Gateway("""hostname "mx.test"
workers(1)
backend "dovecot" { "%s", protocol = "lmtp" }
listen "l" { "127.0.0.1:%d", backend = "dovecot" }
""" % (address, port)).start()
    g.port, g.dovecot = port, d
    yield g
    wrong = g.stop()
    d.stop()
    assert wrong == ""


def data(g, subject, *rcpts):
    """The replies to each RCPT and to the end of mail data."""
    s = smtplib.SMTP("127.0.0.1", g.port, local_hostname="client.test", timeout=60)
    try:
        s.ehlo()
        s.mail("a@x.test")
        codes = [s.rcpt(r)[0] for r in rcpts]
        code, text = s.data("Subject: %s\r\n\r\n%s\r\n" % (subject, "a line of text to fill it\r\n" * 60))
        return codes, code, text.decode()
    finally:
        s.quit()


@needs
def test_two_have_it_and_the_client_hears_the_first_reply(world):
    codes, code, text = data(world, "both", "ann@y.test", "bob@y.test")
    assert codes == [250, 250] and code == 250 and "<ann@y.test>" in text and "Saved" in text
    for user in ("ann", "bob"):
        assert any(b"Subject: both" in m for m in world.dovecot.mails(user))
    assert len(re.findall(r"event=rcpt id=\S+ .*to=<(?:ann|bob)@y\.test> by=backend code=250", world.log())) >= 2


@needs
def test_an_unknown_one_is_refused_at_rcpt_in_dovecots_words(world):
    codes, code, _ = data(world, "one", "ann@y.test", "nobody@y.test")
    assert codes == [250, 550] and code == 250


@needs
def test_a_full_mailbox_among_others_is_told_with_who_has_it(world):
    before = len(world.dovecot.mails("ann"))
    codes, code, text = data(world, "full", "ann@y.test", "full@y.test")
    assert codes == [250, 250] and code in (452, 552)
    assert "<full@y.test>" in text and "Quota exceeded" in text and "delivered to <ann@y.test>" in text
    assert len(world.dovecot.mails("ann")) == before + 1 and not world.dovecot.mails("full")
    assert re.search(r"event=rcpt id=\S+ .*to=<full@y\.test> by=backend code=%d" % code, world.log())


@needs
def test_a_connection_serves_many_sessions(world):
    before = world.dovecot.log().count("Connect from")
    for i in range(20):
        assert data(world, "again %d" % i, "bob@y.test")[1] == 250
    assert world.dovecot.log().count("Connect from") - before <= 2
