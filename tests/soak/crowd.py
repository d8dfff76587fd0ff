"""A crowd, as a process of its own: IDLE sessions that have said EHLO and then nothing, and SLOW clients that drip one octet a second and
come again when they are cut off. Commands on stdin: "wake" (100 of the idle ones say NOOP, the count of 250s is printed), "end".
    crowd.py PORT IDLE SLOW"""
import resource
import select
import socket
import sys
import time

PORT, IDLE, SLOW = (int(a) for a in sys.argv[1:4])
DRIPS = (b"MAIL FROM:<slow@x.test>" + b" " * 40, b"EHLO " + b"x" * 60)


def connect(number, kind):
    s = socket.socket()
    s.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: one port serves many addresses
    s.bind(("127.%d.%d.%d" % (kind, number // 50 // 200, 1 + number // 50 % 200), 0))
    s.connect(("127.0.0.1", PORT))
    return s


def greet(s):
    s.settimeout(60)
    f = s.makefile("rb")
    assert f.readline().startswith(b"220")
    s.sendall(b"EHLO idle.test\r\n")
    while f.readline()[3:4] == b"-":
        pass


class Slow:
    def __init__(self, number):
        self.number, self.drips, self.cuts, self.at = number, DRIPS[number % 2], 0, 0
        self.begin()

    def begin(self):
        self.at = 0
        self.sock = connect(self.number, 2)
        self.sock.setblocking(False)

    def drip(self):
        try:
            self.sock.send(self.drips[self.at:self.at + 1])
            self.at = (self.at + 1) % len(self.drips)
        except OSError:
            pass


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    idle = []
    for n in range(IDLE):
        idle.append(connect(n, 1))
        greet(idle[-1])
    slow = [Slow(n) for n in range(SLOW)]
    poll = select.epoll()
    by_fd = {}
    for c in slow:
        poll.register(c.sock, select.EPOLLIN)
        by_fd[c.sock.fileno()] = c
    poll.register(sys.stdin, select.EPOLLIN)
    print("ready", flush=True)
    turn, cuts = 0, 0
    next_at = time.monotonic()
    while True:
        for fd, _ in poll.poll(max(0, next_at - time.monotonic())):
            if fd == sys.stdin.fileno():
                word = sys.stdin.readline().strip()
                if word == "wake":
                    good = 0
                    for s in idle[::max(1, len(idle) // 100)][:100]:
                        s.sendall(b"NOOP\r\n")
                        good += s.recv(100).startswith(b"250")
                    print(good, cuts, flush=True)
                    continue
                return
            c = by_fd[fd]
            try:
                got = c.sock.recv(1000)
            except OSError:
                got = b""
            if not got:
                cuts += 1
                poll.unregister(c.sock)
                del by_fd[fd]
                c.sock.close()
                c.begin()
                by_fd[c.sock.fileno()] = c
                poll.register(c.sock, select.EPOLLIN)
        if time.monotonic() >= next_at:  # a twentieth of them every 50 ms: each an octet a second
            next_at += 0.05
            turn = (turn + 1) % 20
            for c in slow[turn::20]:
                c.drip()


main()
