"""Too much is 552 however much it is: behind the end of it, and far over the limit amid it, before the connection is closed."""
import os
import select
import ssl

from gateway import Gateway, certificate, free_port
from peers import BackendServer, Client

CONF = ('hostname "mx.test"\nworkers(%s)\ntls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\n'
        'backend "b" { "%s", pool = 0 }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", tls = "t", limits = { size = 100000, header_size = 1024 } }\n')
LINE = b"0123456789012345678901234567890123456789\r\n"


def begin(server, port, secure):
    """A client that has heard 354."""
    c = Client(port)
    assert c.reply().startswith("220")
    c.send(b"EHLO x\r\n")
    c.reply()
    if secure:
        c.starttls()
        c.send(b"EHLO x\r\n")
        c.reply()
    for line in (b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>"):
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
    return c


def send_and_read(sock, chunks):
    """What is heard while as much is sent as is taken."""
    heard, chunks = b"", iter(chunks)
    data = memoryview(next(chunks))
    sock.setblocking(False)
    while b"\n" not in heard:
        try:
            got = sock.recv(65536)
            if not got:
                break
            heard += got
            continue
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        try:
            data = (data[sock.send(data):] or memoryview(next(chunks, b""))) if data else data
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except OSError:
            data = b""
        select.select([sock], [sock] if data else [], [], 1)
    return heard


def play(secure, times, message):
    server, port, folder = BackendServer(["PIPELINING"]), free_port(), certificate()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), folder, folder, server.address, port)).start()
    heard = []
    for _ in range(times):
        c = begin(server, port, secure)
        heard.append(send_and_read(c.sock, message()))
        c.close()
    server.close()
    wrong = gateway.stop()
    assert not wrong, wrong
    assert all(h.startswith(b"552 5.3.4") for h in heard), heard


def test_many_times_the_limit_over_tls_is_552_behind_its_end():
    play(True, 10, lambda: [b"Subject: x\r\n\r\n"] + [LINE * 390] * 26 + [b".\r\n"])


def test_beyond_a_gib_it_is_552_at_once():
    chunk = LINE * 100000
    play(False, 1, lambda: [b"Subject: x\r\n\r\n"] + [chunk] * ((1 << 30) // len(chunk) + 100))
