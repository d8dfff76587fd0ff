"""A conversation by BDAT cut in two at every octet: the backend hears the same, the client is told the same."""
import socket
import threading

from gateway import Gateway, free_port
from peers import BackendServer, Client, Wrong

SAID = (b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nBDAT 9\r\nS: x\r\n\r\n.BDAT 8\r\n\r\n.\r\n..\rBDAT 0\r\nBDAT 7 LAST\r\n\nQUIT\r\nMAIL FROM:<c@x.test>\r\n"
        b"RCPT TO:<b@y.test>\r\nBDAT 6\r\nQUIT\n\nBDAT 2 LAST\r\n\r\nNOOP\r\nBDAT 3\r\nabcQUIT\r\n")
TOLD = [b"250 2.1.0 Ok", b"250 2.1.5 ok", b"250 2.0.0 Ok: 9 octets", b"250 2.0.0 Ok: 8 octets", b"250 2.0.0 Ok: 0 octets", b"250 2.0.0 Ok: queued",
        b"250 2.1.0 Ok", b"250 2.1.5 ok", b"550 5.5.2 Bare CR or bare LF in mail data",
        b"503 5.5.1 Bad sequence of commands: the content was refused", b"250 2.0.0 Ok",
        b"503 5.5.1 Bad sequence of commands: need MAIL command", b"221 2.0.0 Bye"]
CONTENT = b"S: x\r\n\r\n.\r\n.\r\n..\r\nQUIT\r\n"


class Taker:
    """Serves every connection and keeps what it was given, by DATA or by BDAT."""

    def __init__(self, can):
        self.server = BackendServer(can)
        self.messages = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer = self.server.used.get()
                threading.Thread(target=self.serve, args=(peer,), daemon=True).start()
            except (Wrong, OSError):
                return

    def serve(self, peer):
        try:
            while True:
                line = peer.line()
                if line == "DATA":
                    peer.send(b"354 go\r\n")
                    self.messages.append(peer.content())
                    peer.send(b"250 2.0.0 Ok: queued\r\n")
                elif line.startswith("BDAT"):
                    self.messages.append(peer.octets(int(line.split()[1])))
                    peer.send(b"250 2.0.0 Ok: queued\r\n")
                elif line == "QUIT":
                    return
                else:
                    peer.send(b"250 2.1.5 ok\r\n")
        except (Wrong, OSError, socket.timeout):
            pass


def everywhere(can, chain):
    taker = Taker(can)
    port = free_port()
    gateway = Gateway('hostname "mx.test" workers(1)\nbackend "b" { "%s" }\nchain "c" { %s }\n'
                      'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false }\n' % (taker.server.address, chain, port),
                      files={"hold.lua": "function on.message(s, m) end\n"}).start()
    try:
        for cut in range(1, len(SAID)):
            c = Client(port)
            c.reply()
            c.send(b"EHLO c.test\r\n")
            c.reply()
            c.send(SAID[:cut])
            try:  # what is told of the first half, so that it has been taken before the second comes
                c.fill(0.004)
            except (socket.timeout, TimeoutError):
                pass
            c.send(SAID[cut:])
            told = []
            while len(told) < len(TOLD):
                told.append(c.line().encode())
            assert told == TOLD, (cut, told)
            c.expect_end()
            assert taker.messages == [CONTENT], (cut, taker.messages)
            taker.messages.clear()
    finally:
        wrong = gateway.stop()
        taker.server.close()
    assert not wrong, wrong


def test_towards_data():
    everywhere(["PIPELINING", "8BITMIME"], "")


def test_towards_bdat_held():
    everywhere(["PIPELINING", "8BITMIME", "CHUNKING"], 'filter "hold.lua" { }')
