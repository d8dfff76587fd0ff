"""The 421 far over the size limit reaches a client over TLS that is still sending."""
import os
import select
import ssl

from gateway import Gateway, certificate, free_port
from peers import BackendServer, Client

CONF = ('hostname "mx.test"\nworkers(%s)\ntls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\n'
        'backend "b" { "%s", pool = 0 }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", tls = "t", limits = { size = 100000, header_size = 1024 } }\n')
MESSAGE = b"Subject: x\r\n\r\n" + b"0123456789012345678901234567890123456789\r\n" * 10000


def send_and_read(sock, data):
    """What is heard while as much is sent as is taken."""
    heard = b""
    sock.setblocking(False)
    while b"\n" not in heard:
        try:
            got = sock.recv(65536)
            if not got:
                break
            heard += got
            continue
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            data = data[sock.send(data[:16384]):] if data else data
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            data = b""
        select.select([sock], [sock] if data else [], [], 1)
    return heard


def test_a_client_over_tls_that_is_cut_off_reads_why():
    server, port, folder = BackendServer(["PIPELINING"]), free_port(), certificate()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), folder, folder, server.address, port)).start()
    heard = []
    for _ in range(20):
        c = Client(port)
        assert c.reply().startswith("220")
        c.send(b"EHLO x\r\n")
        c.reply()
        c.starttls()
        for line in (b"EHLO x", b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>"):
            c.send(line + b"\r\n")
            if line.startswith(b"RCPT"):
                b = server.take()
                assert b.line()[:4] + b.line()[:4] == "MAILRCPT"
                b.send(b"250 ok\r\n250 ok\r\n")
            assert c.reply().startswith("250")
        c.send(b"DATA\r\n")
        assert b.line() == "DATA"
        b.send(b"354 go\r\n")
        assert c.reply().startswith("354")
        heard.append(send_and_read(c.sock, MESSAGE))
        c.close()
    server.close()
    wrong = gateway.stop()
    assert not wrong, wrong
    assert all(h.startswith(b"421 4.3.4") for h in heard), heard
