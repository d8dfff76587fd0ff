"""A backend that keeps what it is told: every message's content by digest. It can be slow, and it can die where it is told to."""
import hashlib
import random
import socket
import struct
import threading
import time


def reset(sock):
    """The peer hears a reset, and whoever reads it here is woken."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


def stop_listening(listener):
    """Whoever accepts here is woken."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    listener.close()


def latencies(port, n=10 ** 6, seconds=3600.0):
    """Seconds from connect to the last 250, of n messages one after the other, or as many as go into that time."""
    taken, end = [], time.monotonic() + seconds
    while len(taken) < n and time.monotonic() < end:
        began = time.perf_counter()
        t = Talker(port)
        t.hello()
        assert t.begin().startswith(b"354")
        t.sock.sendall(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        assert t.reply().startswith(b"250")
        taken.append(time.perf_counter() - began)
        t.sock.sendall(b"QUIT\r\n")
        t.close()
    return taken


class Sink:
    def __init__(self, rate=None, drop=0.0, seed=1, can=("PIPELINING", "8BITMIME")):
        self.rate, self.drop, self.can = rate, drop, can
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.messages = []       # (digest, octets) of every message that heard 250
        self.contents = None     # set to [] to keep them whole
        self.commands = []       # None: not kept
        self.connections = 0
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def close(self):
        self.listener.close()

    def unlucky(self):
        with self.lock:
            return self.drop and self.random.random() < self.drop

    def serve(self, sock):
        try:
            self.talk(sock, sock.makefile("rb"))
        except OSError:
            pass
        finally:
            sock.close()

    def die(self, sock):
        if self.random.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def talk(self, sock, file):
        sock.sendall(b"220 sink\r\n")
        while True:
            line = file.readline()
            if not line:
                return
            if self.commands is not None and len(self.commands) < 100000:
                self.commands.append(line)
            verb = line[:4].upper()
            if self.unlucky():
                return self.die(sock)
            if verb == b"EHLO":
                words = [b"sink"] + [c.encode() for c in self.can]
                sock.sendall(b"".join(b"250%s%s\r\n" % (b"-" if i + 1 < len(words) else b" ", w) for i, w in enumerate(words)))
            elif verb == b"DATA":
                sock.sendall(b"354 go\r\n")
                if not self.content(sock, file):
                    return
            elif verb == b"QUIT":
                sock.sendall(b"221 bye\r\n")
                return
            else:
                sock.sendall(b"250 ok\r\n")

    def content(self, sock, file):
        digest, octets, began, kept = hashlib.sha256(), 0, time.time(), []
        while True:
            line = file.readline()
            if not line:
                return False
            if line == b".\r\n":
                break
            if line.startswith(b"."):
                line = line[1:]
            digest.update(line)
            octets += len(line)
            if self.contents is not None:
                kept.append(line)
            if self.rate and octets > self.rate * (time.time() - began):
                time.sleep(0.005)
        if self.unlucky():  # it has the message or it has not: it never said 250
            self.die(sock)
            return False
        with self.lock:
            self.messages.append((digest.hexdigest(), octets))
            if self.contents is not None:
                self.contents.append(b"".join(kept))
        sock.sendall(b"250 2.0.0 Ok: queued as %d\r\n" % len(self.messages))
        return True


class Talker:
    """A small SMTP client over a plain socket."""

    def __init__(self, port, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), 30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(60)
        self.file = self.sock.makefile("rb")

    def reply(self):
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("the gateway closed")
            if line[3:4] != b"-":
                return line

    def say(self, line):
        self.sock.sendall(line + b"\r\n")
        return self.reply()

    def hello(self):
        assert self.reply().startswith(b"220")
        assert self.say(b"EHLO client.test").startswith(b"250")

    def begin(self, sender=b"a@x.test", rcpts=(b"b@y.test",)):
        """MAIL, RCPT, DATA; the reply to DATA."""
        assert self.say(b"MAIL FROM:<%s>" % sender).startswith(b"250")
        for rcpt in rcpts:
            reply = self.say(b"RCPT TO:<%s>" % rcpt)
            if not reply.startswith(b"250"):
                return reply
        return self.say(b"DATA")

    def close(self):
        self.file.close()
        self.sock.close()


def configuration(port, sink_port, chain="", listen="", backend="", top=""):
    from gateway import WORKERS
    return ('hostname "mx.test"\nworkers(%s)\n%s\nbackend "b" { "127.0.0.1:%d", %s }\nchain "c" { %s }\n'
            'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false, %s }\n'
            % (WORKERS, top, sink_port, backend, chain, port, listen))
