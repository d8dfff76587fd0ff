#!/usr/bin/env python3
"""milter.py [--sluice PATH] [--rounds N] [--messages N]: the same five filters as a milter of a real Postfix, and before it.

Sluice as a milter, Sluice as a proxy, a milter in C (libmilter.c, libmilter-dev), one in Python (pymilter.py, python3-milter), and Postfix
alone: the same Postfix, which queues and throws away, the same smtp-source; all take turns in each round. What counts is the CPU of the
filter's own process a message. Writes the section "As a milter" of REPORT.md, and prints it. Needs root, Postfix and gcc."""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
from report import SECTION, machine, other_sections  # noqa: E402
from subjects import FILTERS, ROOT, cpu, free_port, wait_port  # noqa: E402

CONF = """hostname "mx.bench"
workers(1)
backend "b" { "127.0.0.1:%(plain)d", pool = 64, pool_uses = 100000 }
chain "c" { %(filters)s }
limits { connections = 15000, connections_per_client = 0 }
listen "l" { "127.0.0.1:%(proxy)d", backend = "b", chain = "c", received = false }
milter "m" { "unix:%(folder)s/sluice", chain = "c", mode = "0666" }
"""
PRIVATE = os.path.join(ROOT, "contrib/postfix/private.sh")
NAMES = ["Postfix alone", "Sluice as a milter", "Sluice as a proxy", "libmilter, in C", "pymilter, in Python"]


class Bench:
    def __init__(self, folder, messages):
        self.folder, self.messages, self.started, self.master = folder, messages, [], None
        self.ports = {name: free_port() for name in NAMES}

    def start(self, sluice):
        folder = self.folder
        sockets = {"Sluice as a milter": "sluice", "libmilter, in C": "libmilter", "pymilter, in Python": "pymilter"}
        self.start_postfix({self.ports[name]: socket for name, socket in sockets.items()})
        with open(folder + "/sluice.lua", "w") as f:
            f.write(CONF % {"plain": self.ports[NAMES[0]], "proxy": self.ports["Sluice as a proxy"], "filters": FILTERS, "folder": folder})
        subprocess.run(["gcc", "-O2", "-o", folder + "/filter", HERE + "/libmilter.c", "-lmilter", "-lpthread"], check=True)
        gateway = self.run(sluice, "run", "-c", folder + "/sluice.lua")
        self.filters = {"Sluice as a milter": gateway, "Sluice as a proxy": gateway,
                        "libmilter, in C": self.run(folder + "/filter", "unix:%s/libmilter" % folder),
                        "pymilter, in Python": self.run("/usr/bin/python3", "-I", HERE + "/pymilter.py", "unix:%s/pymilter" % folder)}
        for socket in sockets.values():
            self.wait(lambda: os.path.exists(folder + "/" + socket), "%s did not start" % socket, 10)
            os.chmod(folder + "/" + socket, 0o666)
        wait_port(self.ports["Sluice as a proxy"])

    def wait(self, claim, otherwise, seconds):
        deadline = time.monotonic() + seconds
        while not claim():
            if time.monotonic() > deadline:
                with open(self.folder + "/out") as out:
                    raise SystemExit("milter.py: %s\n%s" % (otherwise, out.read()))
            time.sleep(0.05)

    def run(self, *command):
        with open(os.path.join(self.folder, "out"), "ab") as out:
            self.started.append(subprocess.Popen(command, stdout=out, stderr=out))
        return self.started[-1].pid

    def start_postfix(self, milters):
        """One instance; a port for each milter beside its own."""
        place = self.folder + "/postfix"
        cf = "smtpd_client_event_limit_exceptions = static:all\nmilter_default_action = tempfail\n"
        subprocess.run([PRIVATE, "start", place, str(self.ports[NAMES[0]]), "discard"], check=True, env=dict(os.environ, PRIVATE_POSTFIX_CF=cf), stdout=subprocess.DEVNULL)
        with open(place + "/etc/master.cf", "a") as f:
            for port, socket in milters.items():
                f.write("127.0.0.1:%d inet n - n - 200 smtpd -o smtpd_milters=unix:%s/%s\n" % (port, self.folder, socket))
        subprocess.run(["postfix", "-c", place + "/etc", "reload"], check=True, capture_output=True)
        with open(place + "/queue/pid/master.pid") as f:
            self.master = int(f.read())

    def queued(self):
        return sum(len(files) for queue in ("incoming", "active", "deferred") for _, _, files in os.walk(self.folder + "/postfix/queue/" + queue))

    def send(self, name, n):
        """Seconds until they are taken, and until the queue is empty again."""
        began = time.monotonic()
        subprocess.run(["smtp-source", "-s", "20", "-m", str(n), "-l", "4096", "-f", "a@example.org", "-t", "b@example.net", "127.0.0.1:%d" % self.ports[name]], check=True)
        taken = time.monotonic() - began
        self.wait(lambda: not self.queued(), "Postfix' queue does not get empty", 300)
        return taken, time.monotonic() - began

    def measure(self, name):
        """CPU in us a message of the filter and of Postfix, messages a second that were taken, and that were delivered too."""
        self.send(name, 200)
        pid = self.filters.get(name)
        before = cpu(pid) if pid else 0, cpu(self.master)
        taken, gone = self.send(name, self.messages)
        return [((cpu(pid) if pid else 0) - before[0]) / self.messages * 1e6, (cpu(self.master) - before[1]) / self.messages * 1e6,
                self.messages / taken, self.messages / gone]

    def delivered(self):
        with open(self.folder + "/postfix/log", errors="replace") as f:
            return len(re.findall(r"status=sent", f.read()))

    def stop(self):
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        subprocess.run([PRIVATE, "stop", self.folder + "/postfix"], check=False, stdout=subprocess.DEVNULL)


def cell(values):
    return "%.0f (%.0f-%.0f)" % (statistics.median(values), min(values), max(values))


def section(rows, rounds, messages):
    m = machine()
    out = [SECTION, "", "Made by `tests/bench/milter.py` on %s: %s, %d cores, Linux %s, loopback, %d rounds of %d messages each, all in turn. `smtp-source`, 20 at once, 4 KiB, 1 message a "
           "connection, to one Postfix that queues and throws away (the discard transport): its queue is what bounds the rates. The five filters are those of the other tables, as one milter in "
           "C and in Python too; no one of them reads the body. CPU is of the filter's own process, and of all of Postfix' processes until its queue is empty. Sluice as a proxy keeps its "
           "connections to Postfix, which saves that a process for each client." % (
               m["when"], m["model"], m["cores"], m["kernel"], rounds, messages), "",
           "|  | CPU of the filter, us a message | CPU of Postfix, us a message | both, to Postfix alone | taken a second | delivered a second |", "|---|---|---|---|---|---|"]
    alone = [row[1] for row in rows[NAMES[0]]]
    for name in NAMES:
        filters, postfix, taken, gone = zip(*rows[name])
        ratio = ["%.2f" % f(x) for x in [[(a + b) / c for a, b, c in zip(filters, postfix, alone)]] for f in (statistics.median, min, max)]
        out.append("| %s | %s | %s | %s (%s-%s) | %s | %s |" % (name, cell(filters) if any(filters) else "-", cell(postfix), *ratio, cell(taken), cell(gone)))
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sluice", default=os.path.join(ROOT, "build", "sluice"), help="the binary (a Release build)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--messages", type=int, default=10000)
    p.add_argument("--print", action="store_true", help="leave REPORT.md as it is")
    a = p.parse_args()
    folder = tempfile.mkdtemp(prefix="sluice-bench-")
    os.chmod(folder, 0o755)
    bench, rows = None, {name: [] for name in NAMES}
    try:
        bench = Bench(folder, a.messages)
        bench.start(os.path.abspath(a.sluice))
        for _ in range(a.rounds):
            for name in NAMES:
                rows[name].append(bench.measure(name))
                print("%-20s filter %7.1f us  Postfix %7.1f us  %5.0f a second, %5.0f delivered" % (name, *rows[name][-1]), file=sys.stderr, flush=True)
        want = a.rounds * len(NAMES) * (a.messages + 200)
        assert bench.delivered() == want, "%d of %d messages were delivered" % (bench.delivered(), want)
    finally:
        if bench:
            bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    text = section(rows, a.rounds, a.messages)
    print(text)
    if not a.print:
        others = other_sections(HERE)
        with open(os.path.join(HERE, "REPORT.md"), "w") as f:
            f.write(others + "\n" + text)


if __name__ == "__main__":
    main()
