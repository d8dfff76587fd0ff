#!/usr/bin/python3
"""pymilter.py SOCKET - the five filters of the bench (subjects.py: FILTERS) as one milter in Python, for comparison (milter.py)."""
import sys
import threading
import time

import Milter

CLIENTS, SENDERS, RCPTS, DOMAINS = {"192.0.2.66"}, {"spam@example.com"}, {"nobody@example.com"}, {"example.net"}
MOST, WINDOW = 100000000, 3600
tallies, lock = {}, threading.Lock()


def is_over(ip):
    now = time.time()
    with lock:
        since, n = tallies.get(ip, (now, 0))
        if now - since >= WINDOW:
            since, n = now, 0
        tallies[ip] = since, n + 1
    return n + 1 > MOST


class Filter(Milter.Base):
    def denied(self, enhanced="5.7.1", text="Access denied"):
        self.setreply("554", enhanced, text)
        return Milter.REJECT

    def connect(self, name, family, address):
        self.ip = address[0] if address else ""
        return self.denied() if self.ip in CLIENTS else Milter.CONTINUE

    def envfrom(self, path, *words):
        self.fields = 0
        if path.strip("<>").lower() in SENDERS:
            return self.denied()
        if is_over(self.ip):
            self.setreply("450", "4.7.1", "Too many messages")
            return Milter.TEMPFAIL
        return Milter.CONTINUE

    def envrcpt(self, path, *words):
        address = path.strip("<>").lower()
        if address in RCPTS:
            return self.denied()
        return Milter.CONTINUE if address.rpartition("@")[2] in DOMAINS else self.denied("5.1.1", "No such user")

    @Milter.noreply
    def header(self, name, value):
        self.fields += name.lower() == "x-originating-ip"
        return Milter.CONTINUE

    def eom(self):
        for i in range(self.fields, 0, -1):
            self.chgheader("X-Originating-IP", i, "")
        return Milter.CONTINUE


def main():
    Milter.factory = Filter
    Milter.set_flags(Milter.CHGHDRS)
    Milter.runmilter("bench", sys.argv[1], 240)


if __name__ == "__main__":
    main()
