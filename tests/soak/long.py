#!/usr/bin/env python3
"""Mixed load for as long as you like: sizes, TLS, BDAT, refusals, filters that wait, clients that leave, a backend that dies now and
then, a reload every 10 s (each fifth of a configuration that is wrong). Nothing acknowledged is missing or twice, nothing else is
there, memory stays flat (within --margin percent between two windows after a warm-up; not judged under a sanitizer), descriptors
return. One command:
    tests/soak/long.py --minutes 30 [--sluice PATH] [--clients 12] [--workers 2]
Ends with the figures, and 1 if something was wrong."""
import argparse
import os
import ssl
import statistics
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))


class Soak:
    uncertain = may_lose = False  # a connection that breaks is wrong

    def __init__(self, arguments):
        import gateway
        from mixed import IDENTITIES, WORDS, Books
        self.a, self.over, self.pause, self.patience = arguments, False, arguments.pause, 120
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = gateway.certificate()
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        self.sinks = [Books(drop=0.002, can=("PIPELINING", "8BITMIME", "SIZE 50000000", "CHUNKING", *WORDS)),
                      Books(drop=0.002, context=context, seed=2, can=("PIPELINING", "8BITMIME"))]
        self.ports = {name: gateway.free_port() for name in ("plain", "held", "empty", "smtps", *IDENTITIES)}
        self.extra = gateway.free_port()
        self.gateway = gateway.Gateway(self.text(0), files=self.files(0))
        self.control, self.reloads, self.refused, self.rss, self.seen = self.gateway.folder + "/control", 0, 0, [], 0
        self.gateway.start()
        self.bad, self.bigger = "", 0

    def files(self, n):
        from mixed import SCRIPTS
        return {name: text % n if "%d" in text else text for name, text in SCRIPTS.items()}

    def text(self, n):
        from gateway import certificate
        from mixed import chains, identities, listeners
        extra = 'listen "extra" { "127.0.0.1:%d", backend = "b" }\n' % self.extra if n % 3 == 1 else ""
        return ('hostname "mx.test"\nworkers(%d)\ncontrol "control"\ntimeouts { drain = "30s" }\n'
                'limits { connections_per_client = 0, errors = 1000 }\ntls "t" { certificate = "%s", key = "%s" }\n'
                'backend "b" { "127.0.0.1:%d", pool = %d }\nbackend "t" { "127.0.0.1:%d", tls = "opportunistic", pool = %d }\n'
                'backend "jail" { "127.0.0.1:%d" }\n%s%s%s' % (
                    self.a.workers, certificate() + "/cert.pem", certificate() + "/key.pem", self.sinks[0].port, (8, 2, 0, 8)[n % 4],
                    self.sinks[1].port, (4, 0)[n % 2], self.sinks[0].port, identities(self.sinks[0].port) + chains(), listeners(self.ports), extra))

    def ask(self, command):
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(self.control)
            s.sendall(command + b"\n")
            return b"".join(iter(lambda: s.recv(65536), b""))

    def reload(self):
        from gateway import rewrite
        self.reloads += 1
        n = self.reloads
        for name, text in self.files(n).items():
            with open(os.path.join(self.gateway.folder, name + ".new"), "w") as f:
                f.write(text)
            os.rename(os.path.join(self.gateway.folder, name + ".new"), os.path.join(self.gateway.folder, name))
        wrong = n % 5 == 4
        rewrite(self.gateway, self.text(n) + ("limits { recipients = -1 }\n" if wrong else ""))
        answer = self.ask(b"reload")
        if answer.startswith(b"ok\n") == wrong:
            self.bad += "reload %d: %r\n" % (n, answer)
        self.refused += wrong

    def look(self):
        """Resident memory; the log is read on, and cut when it is long."""
        self.rss.append((time.monotonic(), self.gateway.rss()))
        with open(self.gateway.log_path, "rb") as f:
            f.seek(self.seen)
            text = f.read().decode(errors="replace")
        self.seen += len(text)
        for word in ("Sanitizer", "runtime error", "sluice: bug"):
            if word in text and not self.bad:
                self.bad += text[max(0, text.index(word) - 1000):][:6000]
        if self.seen > 20 << 20:
            os.truncate(self.gateway.log_path, 0)
            self.seen = 0

    def run(self):
        from mixed import Mixed
        clients = [Mixed(i, self) for i in range(self.a.clients)]
        for c in clients:
            c.start()
        began = self.began = time.monotonic()
        end, reload_at = began + self.a.minutes * 60, began + self.a.reload
        while time.monotonic() < end and self.gateway.process.poll() is None and not self.bad:
            time.sleep(1)
            self.look()
            if time.monotonic() >= reload_at:
                self.reload()
                reload_at += self.a.reload
                if self.a.verbose:
                    self.tell(clients)
            if sum(len(c.wrong) for c in clients) > 20:
                break
        self.over = True
        for c in clients:
            c.join(180)
            if c.is_alive():
                self.bad += "client %d still waits\n" % c.number
        return clients

    def tell(self, clients):
        print("%6.0f s  %7d acknowledged  %5d refused  %4d left  %5d KiB  wrong %d" % (
            time.monotonic() - self.began, sum(c.acknowledged for c in clients), sum(c.refused for c in clients),
            sum(c.left for c in clients), self.rss[-1][1], sum(len(c.wrong) for c in clients)), flush=True)

    def flat(self):
        """Percent that resident memory has grown by: medians of the last tenth and of a tenth behind the warm-up."""
        if len(self.rss) < 20:
            return 0, 0, 0
        first, last = self.rss[0][0], self.rss[-1][0]
        warm = first + (last - first) * self.a.warm
        tenth = (last - warm) / 10
        early = statistics.median(k for t, k in self.rss if warm <= t <= warm + tenth)
        late = statistics.median(k for t, k in self.rss if t >= last - tenth)
        return early, late, (late / early - 1) * 100

    def judge(self, clients):
        from mixed import leftovers
        wrong = [w for c in clients for w in c.wrong][:20] + ([self.bad] if self.bad else [])
        deadline = time.monotonic() + 60
        fds = []
        while time.monotonic() < deadline and (not fds or fds[-1] > 70):
            time.sleep(0.5)
            fds = [len(os.listdir("/proc/%d/fd" % self.gateway.process.pid))] if self.gateway.process.poll() is None else [0]
        if fds[-1] > 70:
            wrong.append("%d descriptors are open" % fds[-1])
        self.look()
        wrong += leftovers(self, clients)[:20]
        tail = self.gateway.log()[-3000:] if wrong else ""
        for s in self.sinks:
            s.close()
        ended = self.gateway.stop()
        if ended:
            wrong.append(ended)
        took = sorted(t for c in clients for t in c.took)
        early, late, grown = self.flat()
        from gateway import sanitized
        print("%d acknowledged, %.1f GiB, %d refused, %d left, %d reloads (%d refused); p50 %.1f ms, p99 %.1f ms; descriptors %d" % (
            len(took), sum(s.octets for s in self.sinks) / (1 << 30), sum(c.refused for c in clients), sum(c.left for c in clients),
            self.reloads, self.refused, *(took[len(took) * p // 100] * 1000 if took else 0 for p in (50, 99)), fds[-1]))
        print("resident memory: %d KiB after the warm-up, %d KiB at the end, %+.1f%%, most %d KiB" % (
            early, late, grown, max(k for _, k in self.rss)))
        if grown > self.a.margin and not sanitized():
            wrong.append("memory has grown by %.1f%%" % grown)
        if len(took) < self.a.minutes * 60:
            wrong.append("only %d messages" % len(took))
        for w in wrong:
            print("WRONG:", w)
        if wrong:
            print(tail)
        return wrong


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=30)
    p.add_argument("--sluice", default=os.environ.get("SLUICE"))
    p.add_argument("--clients", type=int, default=12)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--reload", type=float, default=10, help="seconds between two reloads")
    p.add_argument("--pause", type=float, default=0.05, help="most seconds a client waits between two messages")
    p.add_argument("--warm", type=float, default=0.33, help="share of the time that is warm-up: free lists and arenas find their size")
    p.add_argument("--margin", type=float, default=2, help="percent that memory may grow by")
    p.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    if a.sluice:
        os.environ["SLUICE"] = os.path.abspath(a.sluice)
    else:
        import gateway
        os.environ["SLUICE"] = gateway.SLUICE
    os.environ.setdefault("SLUICE_SLOW", "3")
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:quarantine_size_mb=16")
    soak = Soak(a)
    return 1 if soak.judge(soak.run()) else 0


if __name__ == "__main__":
    sys.exit(main())
