"""A bad network between two peers, in user space (kernels without netem): a TCP proxy that delays, chops, stalls and resets, by dice with
a seed. What TCP mends itself (loss) shows to the peers as delay in bursts: stalls of a retransmission's length."""
import random
import socket
import struct
import threading
import time

from sink import stop_listening


class Network:
    def __init__(self, to, seed=1, delay=(0.0, 0.0), chop=0, stall=0.0, stall_for=0.2, reset=0.0):
        """delay: seconds, from and to, of each piece; chop: largest piece; stall, reset: chance for each piece."""
        self.to, self.random, self.delay, self.chop = to, random.Random(seed), delay, chop
        self.stall, self.stall_for, self.reset = stall, stall_for, reset
        self.resets = self.stalls = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def close(self):
        stop_listening(self.listener)

    def run(self):
        while True:
            try:
                a, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.link, args=(a,), daemon=True).start()

    def link(self, a):
        try:
            b = socket.create_connection(("127.0.0.1", self.to), 10)
        except OSError:
            a.close()
            return
        b.settimeout(None)
        for s in (a, b):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = threading.Thread(target=self.carry, args=(b, a), daemon=True)
        other.start()
        self.carry(a, b)
        other.join()
        a.close()
        b.close()

    def carry(self, source, sink):
        try:
            while True:
                octets = source.recv(65536)
                if not octets:
                    sink.shutdown(socket.SHUT_WR)
                    return
                while octets:
                    n = self.random.randrange(1, self.chop + 1) if self.chop else len(octets)
                    time.sleep(self.random.uniform(*self.delay))
                    dice = self.random.random()
                    if dice < self.stall:
                        self.stalls += 1
                        time.sleep(self.stall_for)
                    elif dice < self.stall + self.reset:
                        self.resets += 1
                        for s in (source, sink):
                            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        sink.send(octets[:n // 2])
                        source.shutdown(socket.SHUT_RDWR)  # both threads end; close() then resets
                        sink.shutdown(socket.SHUT_RDWR)
                        return
                    sink.sendall(octets[:n])
                    octets = octets[n:]
        except OSError:
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
