"""Certificates are read again when their files change; nobody notices but new handshakes. Tickets outlive both."""
import os
import shutil
import ssl
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port, reload
from sink import Sink, Talker, configuration


class Secure(Talker):
    """STARTTLS, with a session that may be resumed."""

    def __init__(self, port, session=None, context=None):
        super().__init__(port)
        self.context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.hello()
        assert self.say(b"STARTTLS").startswith(b"220")
        self.sock = self.context.wrap_socket(self.sock, session=session)
        self.file = self.sock.makefile("rb")
        assert self.say(b"EHLO client.test").startswith(b"250")

    def name(self):
        return ssl.DER_cert_to_PEM_cert(self.sock.getpeercert(True))


def pem(name):
    return open(certificate(name) + "/cert.pem").read()


def put(gateway, name, key=None):
    """As certbot does it: files of their own, then the links are swapped."""
    live = gateway.folder + "/live"
    for file, source in (("fullchain.pem", certificate(name) + "/cert.pem"), ("privkey.pem", certificate(key or name) + "/key.pem")):
        link = live + "/" + file
        os.path.lexists(link + ".new") and os.remove(link + ".new")
        os.symlink(source, link + ".new")
        os.rename(link + ".new", link)


@pytest.fixture
def gateway(request):
    sink, port = Sink(), free_port()
    gateway = Gateway('tls "t" { certificate = "@DIR@/live", minimum = "%s" }\n' % getattr(request, "param", "TLSv1.2")
                      + configuration(port, sink.port, listen='tls = "t"'))
    os.mkdir(gateway.folder + "/live")
    put(gateway, "one.test")
    gateway.port = port
    gateway.start()
    yield gateway
    assert gateway.stop() == ""
    sink.close()


def until(gateway, claim):
    deadline = time.monotonic() + 10 * SLOW
    while not claim():
        assert time.monotonic() < deadline, gateway.log()
        time.sleep(0.1)


def test_new_handshakes_get_the_new_certificate_and_sessions_go_on(gateway):
    old = Secure(gateway.port)
    assert old.name() == pem("one.test")
    put(gateway, "two.test")
    until(gateway, lambda: Secure(gateway.port).name() == pem("two.test"))
    assert old.begin().startswith(b"354") and old.say(b"x\r\n.").startswith(b"250")
    assert gateway.log().count("have been read again") == 1


def test_an_unfit_certificate_is_told_once_and_the_old_one_stays(gateway):
    put(gateway, "two.test", key="one.test")
    until(gateway, lambda: "does not match the certificate; what was read before stays" in gateway.log())
    time.sleep(2.5)
    assert gateway.log().count("what was read before stays") == 1
    assert Secure(gateway.port).name() == pem("one.test")
    put(gateway, "two.test")
    until(gateway, lambda: Secure(gateway.port).name() == pem("two.test"))


def resume(gateway, context, session):
    c = Secure(gateway.port, session, context)
    assert c.sock.session_reused
    assert c.say(b"NOOP").startswith(b"250")
    return c.sock.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_outlives_a_reload_and_a_change_of_certificate(gateway, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    c = Secure(gateway.port, None, context)
    assert not c.sock.session_reused and c.say(b"NOOP").startswith(b"250")
    session = resume(gateway, context, c.sock.session)
    reload(gateway)
    session = resume(gateway, context, session)
    put(gateway, "two.test")
    until(gateway, lambda: "have been read again" in gateway.log())
    resume(gateway, context, session)
    assert Secure(gateway.port).name() == pem("two.test")


def test_whoever_comes_with_a_ticket_of_tls_1_3_is_given_the_next(gateway):
    """OpenSSL's clients, Postfix among them, use each but once (RFC 8446 C.4): they would resume every other time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    c = Secure(gateway.port, None, context)
    assert c.say(b"NOOP").startswith(b"250")
    sessions = [c.sock.session]
    for _ in range(3):
        sessions.append(resume(gateway, context, sessions[-1]))
    assert len({s.id for s in sessions}) == 4


def test_files_replaced_in_place_will_do(gateway):
    live = gateway.folder + "/live"
    for file, source in (("fullchain.pem", "/cert.pem"), ("privkey.pem", "/key.pem")):
        os.remove(live + "/" + file)
        shutil.copy(certificate("two.test") + source, live + "/" + file)
    until(gateway, lambda: Secure(gateway.port).name() == pem("two.test"))
