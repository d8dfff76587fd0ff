"""docs/postfix.md does what it says: its commands change a copy of Debian's configuration, that Postfix runs, and Sluice stands before it with
the page's own configuration."""
import os
import re
import shutil
import smtplib
import subprocess
import tempfile
import time

import pytest
from gateway import ROOT, Gateway, free_port

DEBIAN = "/usr/share/postfix"
needs = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("postfix") or not os.path.exists(DEBIAN + "/main.cf.debian"),
                           reason="needs root and Debian's Postfix")


def blocks(language):
    with open(os.path.join(ROOT, "docs/postfix.md")) as f:
        return re.findall(r"^```%s\n(.*?)^```$" % language, f.read(), re.M | re.S)


class Shipped:
    """Postfix as Debian ships it, in folders of its own; the page's commands are run on it."""

    def __init__(self, ports):
        self.folder = tempfile.mkdtemp(prefix="sluice-docs-")
        os.chmod(self.folder, 0o755)
        self.etc, self.ports = self.folder + "/etc", ports
        for name in ("etc", "queue", "data"):
            os.mkdir("%s/%s" % (self.folder, name))
        shutil.copy(DEBIAN + "/main.cf.debian", self.etc + "/main.cf")
        shutil.copy("/etc/postfix/dynamicmaps.cf", self.etc)
        with open(DEBIAN + "/master.cf.dist") as f, open(self.etc + "/master.cf", "w") as to:
            to.write(re.sub(r"^smtp( +)inet", r"127.0.0.1:%d\1inet" % ports["25"], f.read(), flags=re.M) +
                     "postlog unix-dgram n - n - 1 postlogd\n")
        shutil.chown(self.folder + "/data", "postfix")
        self.run("postconf -e queue_directory=%s/queue data_directory=%s/data inet_interfaces=127.0.0.1 inet_protocols=ipv4 myhostname=mta.example.net "
                 "mydestination= virtual_mailbox_domains=example.net,idle.example virtual_transport=discard: smtpd_peername_lookup=no "
                 "mynetworks=127.0.0.0/8 maillog_file=%s/log maillog_file_prefixes=%s alias_maps= alias_database= compatibility_level=3.6 "
                 "virtual_mailbox_maps=static:all" % ((self.folder,) * 4))
        self.run("postconf -F '*/*/chroot=n'")  # a chroot needs more of the system than a test may set up

    def run(self, text):
        done = subprocess.run(["bash", "-e", "-c", text], env=dict(os.environ, MAIL_CONFIG=self.etc), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, text + done.stdout + done.stderr

    def translate(self, text):
        for known, ours in self.ports.items():
            text = re.sub(r"(?<=:)%s\b" % known, str(ours), text)
        return text.replace("smtp/inet", "127.0.0.1:%d/inet" % self.ports["25"]).replace(" n - y - - smtpd", " n - n - - smtpd")

    def follow_the_page(self):
        for block in blocks("sh"):
            self.run(self.translate(block).replace("postfix reload", ""))

    def start(self):
        self.run("postfix start")

    def log(self):
        with open(self.folder + "/log", errors="replace") as f:
            return f.read()

    def stop(self):
        subprocess.run(["postfix", "-c", self.etc, "stop"], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def postfix():
    p = Shipped({"25": free_port(), "10025": free_port(), "10587": free_port()})
    yield p
    p.stop()


@needs
def test_port_25_moves_and_mail_of_the_true_client_arrives_as_it_was(postfix):
    postfix.follow_the_page()
    postfix.start()
    lua = postfix.translate(blocks("lua")[0]).replace("/run/sluice/control", postfix.folder + "/control").replace('":%d"' % postfix.ports["25"],
                                                                                                              '"127.0.0.1:%d"' % postfix.ports["25"])
    g = Gateway(lua)
    g.start()  # port 25 is free
    code, said, _ = g.ask("check", "--probe")
    assert code == 0 and "warning" not in said, said
    with smtplib.SMTP("127.0.0.1", postfix.ports["25"], source_address=("127.0.0.77", 0), timeout=60) as s:
        s.sendmail("a@example.com", ["b@example.net"], "From: joe\r\nSubject: x\r\n\r\nx\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:  # 127.0.0.77 is in mynetworks: relaying is refused all the same
            s.sendmail("a@example.com", ["b@elsewhere.example"], "x")
        assert refused.value.recipients["b@elsewhere.example"][0] == 554
    deadline = time.monotonic() + 20
    while "status=sent" not in postfix.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    log = postfix.log()
    assert g.stop() == ""
    assert re.search(r"smtpd\[\d+\]: \w+: client=unknown\[127\.0\.0\.77\]:\d+", log), log
    assert "message-id=<>" in log, "it was given a Message-Id: headers of strangers are rewritten"


@needs
def test_the_submission_service_stands_as_the_page_says(postfix):
    postfix.follow_the_page()
    postfix.run("postconf -e smtpd_sasl_type=dovecot smtpd_sasl_path=inet:127.0.0.1:1")
    postfix.start()
    shown = subprocess.run(["postconf", "-c", postfix.etc, "-P"], capture_output=True, text=True).stdout
    service = "127.0.0.1:%d/inet/" % postfix.ports["10587"]
    for line in ("smtpd_sasl_auth_enable = yes", "smtpd_tls_auth_only = no", "smtpd_relay_restrictions = permit_sasl_authenticated,reject"):
        assert service + line in shown, shown
    assert "message_size_limit = 52428800" in subprocess.run(["postconf", "-c", postfix.etc, "-n"], capture_output=True, text=True).stdout


@needs
def test_each_configuration_of_the_page_is_good(postfix, tmp_path):
    from gateway import certificate
    both = "\n".join(blocks("lua")).replace('certificate = "/etc/letsencrypt/live/mail.example.org"',
                                            'certificate = "%s/cert.pem", key = "%s/key.pem"' % ((certificate(),) * 2))
    both = re.sub(r'":(\d+)"', lambda m: '"127.0.0.1:%d"' % free_port(), both)
    g = Gateway(both.replace("/run/sluice/control", "@DIR@/control"))
    code, _, said = g.ask("check")
    assert code == 0 and "error" not in said, said
