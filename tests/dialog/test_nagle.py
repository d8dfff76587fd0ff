"""A peer with Nagle's algorithm on waits for no delayed acknowledgement of ours: none of these messages takes the kernel's 40 ms."""
import os
import socket
import threading
import time

import pytest

from gateway import Gateway, free_port
from peers import Client

CONF = ('hostname "mx.test"\nworkers(%s)\nbackend "b" { "127.0.0.1:%d", health = 0 }\nchain "c" { %s }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", limits = { junk = 0 } }\n')
BODY = b"Subject: x\r\n\r\n" + b"hello world\r\n" * 160


def serve(sock, nodelay):
    """SMTP, one write a reply."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    file = sock.makefile("rb")
    sock.sendall(b"220 b.test\r\n")
    content = False
    for line in file:
        if content:
            content = line != b".\r\n"
            if not content:
                sock.sendall(b"250 2.0.0 taken\r\n")
        elif line[:4] == b"EHLO":
            for part in (b"250-b.test\r\n", b"250-8BITMIME\r\n", b"250 PIPELINING\r\n"):
                sock.sendall(part)
        else:
            content = line[:4] == b"DATA"
            sock.sendall(b"354 go\r\n" if content else b"250 2.0.0 ok\r\n")


def listen(nodelay):
    server = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock, nodelay), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
    return server


def message(c, group, writes):
    began = time.monotonic()
    lines = [b"MAIL FROM:<a@x.test>\r\n", b"RCPT TO:<b@y.test>\r\n", b"DATA\r\n"]
    for part in [b"".join(lines)] if group else lines:
        c.send(part)
        for _ in range(part.count(b"\n")):
            assert c.reply()[:3] in ("250", "354")
    for part in writes:
        c.send(part)
    assert c.reply().startswith("250 2.0.0 taken")
    return time.monotonic() - began


@pytest.mark.parametrize("nodelay, group, writes", [
    (False, False, [BODY + b".\r\n"]), (False, True, [BODY + b".\r\n"]), (True, False, [BODY, b".\r\n"]), (True, False, [BODY[:14], BODY[14:], b".\r\n"]),
    (True, True, [BODY[:5], BODY[5:], b".\r\n"])], ids=["backend", "backend, a group", "dot", "three writes", "amid a line"])
def test_no_message_waits_for_an_acknowledgement(nodelay, group, writes):
    server, port = listen(nodelay), free_port()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), server.getsockname()[1], "", port)).start()
    c = Client(port)
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not nodelay)
    c.reply()
    c.send(b"EHLO c.test\r\n")
    c.reply()
    times = [message(c, group, writes) for _ in range(14)]
    c.close()
    server.close()
    wrong = gateway.stop()
    assert not wrong, wrong
    assert min(times[6:]) < 0.03, times  # the kernel acknowledges the first ones of a connection at once
