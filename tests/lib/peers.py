"""The two peers a dialog plays: a client and a backend, octet by octet where asked."""
import fcntl
import os
import queue
import socket
import ssl
import struct
import tempfile
import termios
import threading
import time

from gateway import SLOW, certificate

PATIENCE = 10 * SLOW


class Wrong(AssertionError):
    pass


class Peer:
    """A socket with a line reader."""

    def __init__(self, sock, chop=False):
        self.sock = sock
        self.chop = chop
        self.buffer = b""
        self.ended = False
        sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, octets):
        try:
            if self.chop and len(octets) <= 4096:
                for i in range(len(octets)):
                    self.sock.sendall(octets[i:i + 1])
            else:
                self.sock.sendall(octets)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # what it said before it left is still to be read

    def fill(self, patience=None):
        """More octets, or False at the end."""
        if self.ended:
            return False
        self.sock.settimeout(PATIENCE if patience is None else patience)
        try:
            got = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            got = b""
        if not got:
            self.ended = True
            return False
        self.buffer += got
        return True

    def line(self):
        while b"\n" not in self.buffer:
            try:
                if not self.fill():
                    raise Wrong("the connection ended; before that: %r" % self.buffer)
            except (socket.timeout, TimeoutError):
                raise Wrong("nothing came in time; so far: %r" % self.buffer)
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r"):
            raise Wrong("a line without CR: %r" % line)
        return line[:-1].decode("utf-8", "surrogateescape")

    def octets(self, n):
        while len(self.buffer) < n:
            try:
                if not self.fill():
                    raise Wrong("the connection ended; before that: %r" % self.buffer)
            except (socket.timeout, TimeoutError):
                raise Wrong("nothing came in time; so far: %r" % self.buffer)
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def expect_end(self):
        try:
            while self.fill():
                pass
        except (socket.timeout, TimeoutError):
            raise Wrong("the connection did not end; so far: %r" % self.buffer)
        if self.buffer:
            raise Wrong("octets before the end: %r" % self.buffer)

    def expect_nothing(self, seconds=0.3):
        if not self.buffer:
            try:
                if not self.fill(seconds):
                    raise Wrong("the connection ended")
            except (socket.timeout, TimeoutError):
                return
        raise Wrong("something came: %r" % self.buffer)

    def close(self):
        self.ended = True
        try:
            self.sock.close()
        except OSError:
            pass

    def reset(self):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # it has been closed
        self.close()

    def is_on_its_way(self):
        """Something that was sent has not reached the other end's socket yet."""
        if self.sock.fileno() < 0 or self.sock.family == socket.AF_UNIX:
            return False
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0" * 4))[0] > 0

    def half(self):
        self.sock.shutdown(socket.SHUT_WR)


class Client(Peer):
    def __init__(self, port, chop=False):
        if isinstance(port, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(port)
        else:
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        super().__init__(sock, chop)
        self.secure = False
        self.shown = None  # the name of the certificate it shows when asked

    def reply(self):
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if len(line) < 4 or line[3] != "-":
                break
        code = lines[0][:3]
        return code + " " + "|".join(l[4:] for l in lines)

    def handshake(self, name="localhost"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.shown:
            folder = certificate(self.shown)
            context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        self.sock.settimeout(PATIENCE)
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=name)
        except (ssl.SSLError, ConnectionResetError):
            self.ended = True
            return
        self.secure = True

    def starttls(self, name="localhost"):
        self.send(b"STARTTLS\r\n")
        reply = self.reply()
        if not reply.startswith("220"):
            raise Wrong("STARTTLS was answered: " + reply)
        self.handshake(name)


class Backend(Peer):
    """One connection of the gateway to the backend."""

    def greet(self, can):
        """Banner and EHLO; a connection that only asked what we can do (the probe) is served to its end: then False."""
        self.send(b"220 backend.test ESMTP\r\n")
        while True:
            try:
                line = self.line()
            except Wrong:
                return False
            verb = line[:4].upper()
            if verb in ("EHLO", "LHLO"):
                lines = ["backend.test"] + can
                self.send("".join("250%s%s\r\n" % ("-" if i + 1 < len(lines) else " ", l) for i, l in enumerate(lines)).encode())
            elif verb == "QUIT":
                self.send(b"221 bye\r\n")
                return False
            else:
                self.buffer = line.encode("utf-8", "surrogateescape") + b"\r\n" + self.buffer
                return True

    def header(self):
        """A PROXY header, version 1, and not an octet more: what follows it may be TLS."""
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.sock.recv(1)
            if not line.startswith(b"PROXY "[:len(line)]):
                raise Wrong("no PROXY header: %r" % line)

    contexts = {}  # by name: a session can be taken up again

    def handshake(self, name, client=None):
        """With the certificate of that name; client: ours must be that one."""
        context = self.contexts.setdefault(name, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        folder = certificate(name)
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        if client:
            context.load_verify_locations(certificate(client) + "/cert.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        self.sock.settimeout(PATIENCE)
        try:
            self.sock = context.wrap_socket(self.sock, server_side=True)
        except (ssl.SSLError, OSError):  # whoever does not trust us says so here
            self.ended = True

    def content(self):
        raw = b""
        while not (raw == b".\r\n" or raw.endswith(b"\r\n.\r\n")):
            raw += self.line().encode("utf-8", "surrogateescape") + b"\r\n"
        raw = raw[:-3]
        return b"".join(l[1:] if l.startswith(b".") else l for l in raw.splitlines(True))

    def octets(self, n):
        while len(self.buffer) < n:
            try:
                if not self.fill():
                    raise Wrong("the connection ended; before that: %r" % self.buffer[-2000:])
            except (socket.timeout, TimeoutError):
                raise Wrong("nothing came in time; so far: %r" % self.buffer[-2000:])
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def rest(self):
        """Serves whatever comes until the connection ends."""
        try:
            while True:
                line = self.line()
                verb = line[:4].upper()
                if verb == "BDAT":
                    self.octets(int(line.split()[1]))
                    self.send(b"250 2.0.0 Ok: queued as REST\r\n" if line.upper().endswith("LAST") else b"250 2.0.0 Ok\r\n")
                elif verb == "DATA":
                    self.send(b"354 go on\r\n")
                    self.content()
                    self.send(b"250 2.0.0 Ok: queued as REST\r\n")
                elif verb == "QUIT":
                    self.send(b"221 bye\r\n")
                    return
                else:
                    self.send(b"250 ok\r\n")
        except (Wrong, OSError, socket.timeout):
            pass


class BackendServer:
    """Listens; connections that begin mail are queued in the order in which they do."""

    def __init__(self, can, chop=False, manual=False, unix=False, serving=False):
        self.can, self.chop, self.manual, self.serving = can, chop, manual, serving
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            path = os.path.join(tempfile.mkdtemp(prefix="sluice-back-"), "s")
            self.listener.bind(path)
            self.address = "unix:" + path
        else:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
            self.address = "127.0.0.1:%d" % self.port
        self.listener.listen(64)
        self.used = queue.Queue()
        self.all = []
        self.closing = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            backend = Backend(sock, self.chop)
            self.all.append(backend)
            if self.manual:
                self.used.put(backend)
            else:
                threading.Thread(target=self.serve, args=(backend,), daemon=True).start()

    def serve(self, backend):
        try:
            if backend.greet(self.can):
                if self.serving:
                    backend.rest()
                else:
                    self.used.put(backend)
        except (Wrong, OSError):
            pass

    def down(self):
        """Nothing listens any more, and every connection ends."""
        self.closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for backend in self.all:
            try:  # wakes whoever waits for its octets, and would keep it open
                backend.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            backend.reset()

    def up(self):
        self.closing = False
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def take(self):
        try:
            return self.used.get(timeout=PATIENCE)
        except queue.Empty:
            raise Wrong("the backend was not used (again)")

    def close(self):
        self.closing = True
        self.listener.close()
        for backend in self.all:
            backend.close()
        time.sleep(0)
