"""The service that the filter of service.c asks, and the module itself. The service can fail at a stage in a way."""
import os
import socket
import struct
import tempfile
import threading
import time

import probe
from gateway import ROOT, SLUICE
from sink import reset, stop_listening

HERE = os.path.dirname(os.path.abspath(__file__))
_built = {}


def module():
    """The path of the filter, built once per process."""
    if SLUICE not in _built:
        folder = tempfile.mkdtemp(prefix="sluice-service-")
        os.makedirs(folder + "/include/sluice")
        with open(ROOT + "/filters/filter.h") as f, open(folder + "/include/sluice/filter.h", "w") as to:
            to.write(f.read())
        _built[SLUICE] = probe.build(folder + "/include", SLUICE, folder + "/service.so", os.path.join(HERE, "service.c"))
    return _built[SLUICE]


class Service:
    """fail(stage, way): how it behaves from then on; stages: connect, HI, MAIL, RCPT, BODY, END. fail(None): well."""

    def __init__(self):
        self.stage = self.way = None
        self.served, self.verdict = 0, b"OK"
        self.port, self.socks = 0, []
        self.come_back()

    def fail(self, stage, way=None):
        self.stage, self.way = stage, way

    def come_back(self):
        """It listens, if it does not."""
        if self.port and self.listener.fileno() >= 0:
            return
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, args=(self.listener,), daemon=True).start()

    def hang_up(self, for_good):
        """Every connection is reset; for good: nobody listens."""
        if for_good:
            self.close()
        for sock in self.socks:
            reset(sock)
        self.socks = []

    def close(self):
        stop_listening(self.listener)

    def run(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.stage == "connect" and not self.misbehave(sock, b"HELLO\n"):
                return
            file = sock.makefile("rb")
            for line in file:
                word = line.split()[0].decode() if line.split() else ""
                answer = {"HI": b"HELLO\n", "BODY": b"", "END": self.verdict + b"\n"}.get(word, b"OK\n")
                if word == "BODY":
                    file.read(int(line.split()[1]))
                self.served += word == "END"
                if self.stage != word:
                    sock.sendall(answer)
                elif not self.misbehave(sock, answer):
                    return
        except OSError:
            pass
        finally:
            sock.close()

    def misbehave(self, sock, answer):
        """True: it goes on."""
        if self.way == "drops":
            return False
        if self.way == "resets":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if self.way == "hangs":
            time.sleep(3)
            return False
        if self.way == "slow":  # an octet at a time, in time
            for i in range(len(answer)):
                sock.sendall(answer[i:i + 1])
                time.sleep(0.01)
            return True
        if self.way == "half":
            sock.sendall(answer[:1] or b"O")
            return False
        sock.sendall({"nonsense": b"\x00\xff\x16\x03 what\n", "floods": b"x" * 300000, "twice": (answer or b"OK\n") * 2,
                      "rejects": b"REJECT 550 5.7.1 no\n", "empty": b"\n"}[self.way])
        return self.way in ("twice", "rejects")
