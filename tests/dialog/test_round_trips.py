"""A backend 20 ms away: how many times a transaction of 100 recipients has to go there and back.

Counted by cause, not by the clock: whatever the gateway sends has gone one round trip further than the furthest reply it has seen by then.
So a slow machine changes nothing."""
import queue
import socket
import threading
import time

import pytest
from gateway import Gateway, free_port
from peers import BackendServer, Client

CAN = ["PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES"]
ONE_WAY = 0.010


class Distance:
    """Stands between gateway and backend, delays each direction by 10 ms, counts round trips. The one of connecting is not in it."""

    def __init__(self, port):
        self.port, self.lock, self.trips = port, threading.Lock(), 0
        self.asked = self.answered = 0  # the furthest that has arrived at the backend; at the gateway
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.here = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def start(self):
        with self.lock:
            self.asked = self.answered = self.trips = self.connections = 0

    def accept(self):
        while True:
            try:
                gateway, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            backend = socket.create_connection(("127.0.0.1", self.port))
            for one, other, there in ((gateway, backend, True), (backend, gateway, False)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = queue.Queue()
                threading.Thread(target=self.take, args=(one, line, there), daemon=True).start()
                threading.Thread(target=self.give, args=(other, line, there), daemon=True).start()

    def take(self, sock, line, there):
        got = b"-"
        while got:
            try:
                got = sock.recv(65536)
            except OSError:
                got = b""
            with self.lock:
                depth = self.answered + 1 if there else self.asked
            line.put((time.monotonic() + ONE_WAY, depth, got))

    def give(self, sock, line, there):
        while True:
            at, depth, octets = line.get()
            time.sleep(max(0, at - time.monotonic()))
            with self.lock:
                if there:
                    self.asked = max(self.asked, depth)
                else:
                    self.answered = max(self.answered, depth)
                    self.trips = self.answered
            try:
                if not octets:
                    sock.shutdown(socket.SHUT_WR)
                    return
                sock.sendall(octets)
            except OSError:
                return

    def close(self):
        self.listener.close()


@pytest.fixture()
def world():
    backend = BackendServer(CAN, serving=True)
    distance = Distance(backend.port)
    port = free_port()
    g = Gateway("""hostname "mx.test"
workers(1)
backend "far" { "127.0.0.1:%d", pool = 4, health = 0 }
listen "l" { "127.0.0.1:%d", backend = "far", received = false }
""" % (distance.here, port)).start()
    yield distance, port
    wrong = g.stop()
    backend.close()
    distance.close()
    assert wrong == ""


def transaction(c, rcpts):
    c.send(b"MAIL FROM:<a@x.test>\r\n" + b"".join(b"RCPT TO:<%d@y.test>\r\n" % i for i in range(rcpts)) + b"DATA\r\n")
    for _ in range(rcpts + 1):
        assert c.reply().startswith("250")
    assert c.reply().startswith("354")
    c.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    assert c.reply().startswith("250")


def client(port):
    c = Client(port)
    c.reply()
    c.send(b"EHLO client.test\r\n")
    c.reply()
    return c


def test_100_rcpts_cost_a_handful_of_round_trips(world):
    distance, port = world
    first, second = client(port), client(port)
    distance.start()
    transaction(first, 100)  # over the connection of the first look, which is kept
    pooled = distance.trips
    assert distance.connections == 0 and pooled <= 3, pooled

    holder = client(port)
    holder.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<1@y.test>\r\n")  # has the one idle connection
    assert holder.reply().startswith("250") and holder.reply().startswith("250")
    distance.start()
    begun = time.monotonic()
    transaction(second, 100)
    took = time.monotonic() - begun
    fresh = 1 + distance.trips  # and the one of connecting
    assert distance.connections == 1 and fresh <= 6, fresh
    print("round trips: %d over a pooled connection, %d with connecting, banner and EHLO: %.0f ms" % (pooled, fresh, took * 1000))


def test_50_rcpts_cost_two(world):
    """The envelope with its DATA, then the content."""
    distance, port = world
    c = client(port)
    distance.start()
    transaction(c, 50)
    assert distance.connections == 0 and distance.trips == 2, distance.trips
