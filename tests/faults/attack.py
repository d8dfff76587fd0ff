"""Hostile clients, as a process of its own: attack.py KIND PORT N OCTETS. Says "ready" once all N are there; ends at a line on stdin and prints
what it did. Whoever is cut off comes again. Kinds:
    silent    connects, and nothing          drip      an octet of a command each second
    commands  cheap commands, as many as go  pipelines mail commands, as many as go, and reads no reply
    command, field, body                     OCTETS without a line end, there, then again
    handshake begins TLS and stops           slam      connects and resets, one after the other"""
import resource
import select
import socket
import struct
import sys
import time

KIND, PORT, N, OCTETS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
RESET = struct.pack("ii", 1, 0)
CHEAP = b"NOOP\r\nVRFY x\r\nFOO\r\nRSET\r\nHELP\r\nEHLO me\r\n" * 100
GROUP = (b"MAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<b@y.test>\r\n" * 100 + b"RSET\r\n") * 5
LONG = b"x" * (1 << 20)
HELLO = bytes.fromhex("16030100c8010000c40303") + b"r" * 32  # less than it promises
counts = {"cut": 0, "sent": 0, "connected": 0}


class Client:
    def __init__(self, number, poll):
        self.number, self.poll, self.sock = number, poll, None
        self.begin()

    def begin(self):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: one port serves many addresses
        self.sock.bind(("127.3.%d.%d" % (self.number // 50 // 200, 1 + self.number // 50 % 200), 0))
        self.sock.settimeout(20)
        try:
            self.sock.connect(("127.0.0.1", PORT))
        except OSError:
            self.sock.close()
            self.sock = None
            return
        counts["connected"] += 1
        self.rest, self.left = self.opening(), OCTETS
        self.sock.setblocking(False)
        active = KIND not in ("silent", "drip")
        self.poll.register(self.sock, (select.EPOLLIN if KIND != "pipelines" else select.EPOLLRDHUP) | (select.EPOLLOUT if active else 0))

    def opening(self):
        if KIND in ("field", "body"):
            self.sock.sendall(b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n")
            heard = b""
            while b"\r\n354" not in heard and b"\r\n4" not in heard and b"\r\n5" not in heard:
                more = self.sock.recv(4096)
                if not more:
                    break
                heard += more
            return b"Subject: " if KIND == "field" else b"Subject: x\r\n\r\n"
        return {"handshake": HELLO}.get(KIND, b"EHLO hostile.test\r\n" if KIND in ("commands", "pipelines") else b"")

    def more(self):
        if KIND == "commands":
            return CHEAP
        if KIND == "pipelines":
            return GROUP
        if KIND in ("command", "field", "body"):
            self.left -= len(LONG)
            if self.left <= 0:
                self.left = OCTETS
                return b"\r\n.\r\n" if KIND != "command" else b"\r\n"
            return LONG
        return b""

    def write(self):
        try:
            for _ in range(4):
                self.rest = self.rest or self.more()
                if not self.rest:
                    self.poll.modify(self.sock, select.EPOLLIN)
                    return
                n = self.sock.send(self.rest)
                counts["sent"] += n
                self.rest = self.rest[n:]
        except BlockingIOError:
            pass
        except OSError:
            self.again()

    def read(self):
        try:
            if not self.sock.recv(65536):
                self.again()
        except BlockingIOError:
            pass
        except OSError:
            self.again()

    def again(self):
        counts["cut"] += 1
        self.poll.unregister(self.sock)
        self.sock.close()
        self.begin()


def slam():
    print("ready", flush=True)
    stdin = select.poll()
    stdin.register(sys.stdin, select.POLLIN)
    while True:
        for n in range(100):
            s = socket.socket()
            s.bind(("127.3.0.%d" % (1 + n), 0))
            s.connect(("127.0.0.1", PORT))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            s.close()
            counts["connected"] += 1
        if stdin.poll(0):
            return


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if KIND == "slam":
        return slam()
    poll = select.epoll()
    clients = [Client(n, poll) for n in range(N)]
    by_fd = {}
    poll.register(sys.stdin, select.EPOLLIN)
    print("ready", flush=True)
    drip, turn = time.monotonic() + 1, 0
    while True:
        for c in clients:
            if c.sock and by_fd.get(c.sock.fileno()) is not c:
                by_fd[c.sock.fileno()] = c
        for fd, events in poll.poll(0.05):
            if fd == sys.stdin.fileno():
                for c in clients:
                    if c.sock:
                        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        c.sock.close()
                return
            c = by_fd[fd]
            if events & select.EPOLLOUT:
                c.write()
            elif events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                c.again() if KIND == "pipelines" else c.read()
            if c.sock and c.sock.fileno() != fd:
                by_fd[c.sock.fileno()] = c
        if KIND == "drip" and time.monotonic() >= drip:
            drip, turn = time.monotonic() + 1, turn + 1
            for c in clients:
                try:
                    c.sock.send(b"MAIL FROM:<someone@somewhere.test> "[turn % 30:turn % 30 + 1])
                except OSError:
                    pass


main()
print(counts["connected"], counts["cut"], counts["sent"], flush=True)
