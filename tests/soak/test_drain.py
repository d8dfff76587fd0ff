"""SIGTERM drains: a backend that owes the reply to an end of mail data has a few seconds beyond the grace, and no more."""
import signal
import socket
import threading
import time

from gateway import Gateway, free_port
from sink import Talker, configuration


class Slow:
    """A backend that thinks for a while before it answers the end of mail data."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            sock, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        file = sock.makefile("rb")
        sock.sendall(b"220 slow\r\n")
        content = False
        for line in file:
            if content:
                if line == b".\r\n":
                    time.sleep(self.seconds)
                    sock.sendall(b"250 2.0.0 at last\r\n")
                    content = False
            elif line[:4].upper() == b"DATA":
                sock.sendall(b"354 go\r\n")
                content = True
            elif line[:4].upper() == b"QUIT":
                sock.close()
                return
            else:
                sock.sendall(b"250 ok\r\n")


def drain_behind_the_end(seconds):
    """A client that has said its end, and how long the gateway lives on when it is told to drain then."""
    slow, port = Slow(seconds), free_port()
    gateway = Gateway(configuration(port, slow.port, top='timeouts { drain = "1s" }')).start()
    c = Talker(port)
    c.hello()
    assert c.begin().startswith(b"354")
    c.sock.sendall(b"Subject: x\r\n\r\nx\r\n.\r\n")
    time.sleep(0.5)
    gateway.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    time.sleep(0.5)
    try:
        socket.create_connection(("127.0.0.1", port), 2)
        raise AssertionError("a draining gateway takes new clients")
    except ConnectionRefusedError:
        pass
    said = c.reply()
    assert c.reply().startswith(b"421 4.3.2")
    assert gateway.process.wait(20) == 0
    lasted = time.monotonic() - began
    assert gateway.stop() == ""
    return said, lasted


def test_a_reply_to_the_end_of_mail_data_is_told_shortly_beyond_the_grace():
    said, _ = drain_behind_the_end(2.5)
    assert said == b"250 2.0.0 at last\r\n"


def test_a_backend_that_owes_it_for_long_does_not_hold_a_drain_up():
    said, lasted = drain_behind_the_end(60)
    assert said.startswith(b"451 4.4.2")
    assert lasted < 1 + 5
