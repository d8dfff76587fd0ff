#!/usr/bin/env python3
"""bench.py: Sluice beside its peers in one run, and the report of it (REPORT.md, plots/*.svg).

Load and sink share the machine with what is measured, so what counts is CPU: of the proxy (its whole tree of processes, nanoseconds of the
kernel's process clocks) and in total (proxy, sink and load: on loopback the sender does part of the receiver's work). Subjects are
interleaved, round by round; a ratio is taken within a round, and the median of the rounds' ratios is shown with its range. A peer that is
not installed is skipped with a word. Needs gcc with OpenSSL's headers and smtp-sink (package postfix)."""
import argparse
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "lib"))
import report  # noqa: E402
import subjects  # noqa: E402
from gateway import certificate  # noqa: E402
from subjects import cpu, free_port, resident, wait_port  # noqa: E402

BIG = 10 * 2**20
PLAIN = ["direct", "haproxy", "haproxy tuned", "nginx", "postfix", "haraka", "sluice", "sluice 5 filters"]
LONG = PLAIN + ["sluice reader"]
TLS = ["haproxy", "nginx", "postfix", "haraka", "sluice", "sluice 5 filters"]
WORKLOADS = {  # name: who runs it, load's arguments
    "w1": (PLAIN, "-c 50 -m 4000"),
    "w2": (PLAIN, "-c 50 -m 10000 -d 100"),
    "w2p": (PLAIN, "-c 50 -m 10000 -d 100 -p"),
    "lat": (PLAIN, "-c 1 -m 1000"),
    "w3": (LONG, "-c 64 -m 512 -d 8 -l 1048576"),
    "w4": (LONG, "-c 4 -m 64 -d 16 -l %d" % BIG),
    "w6": (TLS, "-c 20 -m 1500 TLS"),
    "w6r": (TLS, "-c 20 -m 2000 -r TLS"),
    "w6b": (TLS, "-c 4 -m 40 -d 10 -l %d TLS" % BIG),
}


def busy():
    """Seconds the machine was not idle."""
    with open("/proc/stat") as f:
        n = [int(x) for x in f.readline().split()[1:]]
    return (sum(n[:3]) + sum(n[5:8])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, place, quick):
        self.place, self.quick = place, quick
        self.load = os.path.join(place, "load")
        subprocess.run(["gcc", "-O2", "-o", self.load, os.path.join(HERE, "load.c"), "-lssl", "-lcrypto"], check=True)
        self.cert = certificate()
        with open(self.cert + "/both.pem", "w") as f:
            f.write(open(self.cert + "/cert.pem").read() + open(self.cert + "/key.pem").read())
        self.sink_port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.sink = subprocess.Popen(["smtp-sink", "-m", "12000"] + user + ["127.0.0.1:%d" % self.sink_port, "1000"], cwd="/",
                                     stderr=subprocess.DEVNULL)
        wait_port(self.sink_port)
        self.up, self.results = {}, []

    def subject(self, name):
        if name not in self.up:
            kind = next(k for k in subjects.ALL + [subjects.Mta] if k.name == name)
            self.up[name] = kind(self.place, self.sink_port, self.cert)
            self.up[name].start()
            wait_port(self.up[name].port)
        return self.up[name]

    def shorten(self, arguments, by):
        def shorter(m):
            each = re.search(r"-c (\d+)", arguments)
            return "-m %d" % max(int(m.group(1)) // by, 16, int(each.group(1)))
        return re.sub(r"-m (\d+)", shorter, arguments)

    def run_load(self, subject, arguments):
        port = subject.tls_port if subject.tls == "-i" and "TLS" in arguments else subject.port
        words = arguments.replace("TLS", subject.tls or "").split() + [str(port)]
        process = subprocess.Popen([self.load] + words, stdout=subprocess.PIPE, text=True)
        out = process.stdout.read()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        said = json.loads(out)
        said["client"] = usage.ru_utime + usage.ru_stime
        return said

    def measure(self, name, workload, arguments, settle=None):
        """settle: called behind the load, inside what is measured. A row of results."""
        s = self.subject(name)
        if self.quick:
            arguments = self.shorten(arguments, 10)
        arguments = self.shorten(arguments, s.slow)
        self.run_load(s, self.shorten(arguments, 8))  # caches, pools and compilers get warm
        if settle:
            settle()
        before = [cpu(p) for p in s.roots()], cpu(self.sink.pid), busy()
        said = self.run_load(s, arguments)
        if settle:
            settle()
        proxy = sum(cpu(p) for p in s.roots()) - sum(before[0])
        sink, all_of_it = cpu(self.sink.pid) - before[1], busy() - before[2]
        size = int((re.search(r"-l (\d+)", arguments) or [0, 4096])[1])
        n = max(said["messages"], 1)
        each = 1e6 / n if size < 2**20 else 2**30 / (n * size)
        total = proxy + sink + said["client"]
        row = {"workload": workload, "subject": name, "proxy": proxy * each, "total": total * each, "p50": said["p50_ms"], "p99": said["p99_ms"],
               "rate": said["rate"], "errors": said["errors"], "resumed": said["resumed"], "handshakes": said["handshakes"],
               "others": max(0, 1 - total / all_of_it) if all_of_it else 0}
        self.results.append(row)
        print("%-4s %-17s proxy %8.3f total %8.3f p50 %7.2f ms%s" % (workload, name, row["proxy"], row["total"], row["p50"],
              "  %d errors" % said["errors"] if said["errors"] else ""), file=sys.stderr, flush=True)
        return row

    def idle(self, name, tls, count):
        """KiB that a connection past EHLO takes of the proxy, in a process of its own."""
        kind = next(k for k in subjects.ALL if k.name == name)
        s = kind(os.path.join(self.place, "idle"), self.sink_port, self.cert)
        count = min(count, s.idle_most)
        s.start()
        held = []
        try:
            port = s.tls_port if tls and s.tls == "-i" else s.port
            wait_port(s.port)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            for i in range(count + 50):
                if i == 50:  # what the first ones bring with them is not theirs
                    time.sleep(0.3)
                    before = sum(resident(p) for p in s.roots())
                held.append(self.enter(port, s.tls if tls else None, context))
            time.sleep(0.5)
            each = (sum(resident(p) for p in s.roots()) - before) / count
        finally:
            for c in held:
                c.close()
            s.stop()
        self.results.append({"workload": "idle TLS" if tls else "idle", "subject": name, "each": each, "count": count})
        print("idle%s %-17s %.2f KiB" % (" TLS" if tls else "", name, each), file=sys.stderr, flush=True)

    def enter(self, port, tls, context):
        c = socket.create_connection(("127.0.0.1", port), 30)
        if tls == "-i":
            c = context.wrap_socket(c)
        self.ask(c, None)
        self.ask(c, b"EHLO idle.example.org\r\n")
        if tls == "-s":
            self.ask(c, b"STARTTLS\r\n")
            c = context.wrap_socket(c)
            self.ask(c, b"EHLO idle.example.org\r\n")
        return c

    def ask(self, c, words):
        if words:
            c.sendall(words)
        got = b""
        while not re.search(rb"(^|\n)\d\d\d [^\n]*\n$", got):
            more = c.recv(2000)
            if not more:
                raise OSError("a connection that should stay was closed")
            got += more

    def postfix_behind(self, rounds):
        """The CPU of Postfix with Sluice before it, and of Postfix alone, for the same mail, one message a connection."""
        mta = self.subject("mta")

        def settle():
            for _ in range(600):
                if not mta.queued():
                    return
                time.sleep(0.1)
            print("# Postfix has %d messages left" % mta.queued(), file=sys.stderr)
        before = {}
        for kind in subjects.Sluice, subjects.SluiceFilters:
            front = kind(os.path.join(self.place, "front"), mta.port, self.cert)
            front.start()
            wait_port(front.port)
            before[kind.name] = front
        try:
            for _ in range(rounds):
                for name in ["mta"] + list(before):
                    s = mta if name == "mta" else before[name]
                    arguments = "-c 20 -m %d" % (200 if self.quick else 2000)
                    self.run_load(s, self.shorten(arguments, 8))
                    settle()
                    at = cpu(mta.roots()[0]), sum(cpu(p) for p in s.roots())
                    said = self.run_load(s, arguments)
                    settle()
                    queue, proxy = cpu(mta.roots()[0]) - at[0], sum(cpu(p) for p in s.roots()) - at[1]
                    n = max(said["messages"], 1) / 1e6
                    total = queue if s is mta else queue + proxy
                    self.results.append({"workload": "mta", "subject": name, "proxy": 0 if s is mta else proxy / n, "total": total / n,
                                         "p50": said["p50_ms"], "errors": said["errors"], "rate": said["rate"]})
                    print("mta  %-17s Postfix and proxy %8.1f us, p50 %.2f ms" % (name, total / n, said["p50_ms"]), file=sys.stderr, flush=True)
        finally:
            for s in before.values():
                s.stop()

    def stop(self):
        for s in self.up.values():
            if s.name != "direct":
                s.stop()
        self.sink.terminate()
        self.sink.wait()


def choose(given, all_of_them, what):
    chosen = given.split(",") if given else list(all_of_them)
    for name in chosen:
        if name not in all_of_them:
            raise SystemExit("bench.py: %s: no such %s; there are: %s" % (name, what, ", ".join(all_of_them)))
    return chosen


def measure_all(a, place):
    known = {k.name: k for k in subjects.ALL}
    wanted = choose(a.subjects, known, "subject")
    here, skipped = [], {}
    for name in wanted:
        why = known[name].missing()
        if why:
            skipped[name] = why
            print("# %s skipped: %s" % (name, why), file=sys.stderr)
        else:
            here.append(name)
    works = choose(a.workloads, list(WORKLOADS) + ["idle", "mta"], "workload")
    bench = Bench(place, a.quick)
    rounds = 1 if a.quick else a.rounds
    try:
        for name in works:
            if name == "mta":
                why = subjects.Mta.missing() or subjects.Sluice.missing()
                if why:
                    skipped["real Postfix behind"] = why
                else:
                    bench.postfix_behind(rounds)
            elif name == "idle":
                for tls in False, True:
                    for s in (n for n in here if n not in ("direct", "sluice reader") and (not tls or known[n].tls)):
                        try:
                            bench.idle(s, tls, 200 if a.quick else 2000)
                        except OSError as e:  # what was measured before is not lost for one peer
                            skipped["idle connections at " + s] = str(e)
            else:
                who, arguments = WORKLOADS[name]
                for i in range(rounds):
                    for s in (n for n in here if n in who and (known[n].slow == 1 or i < a.slow_rounds)):
                        bench.measure(s, name, arguments)
    finally:
        bench.stop()
    return {"rows": bench.results, "skipped": skipped, "rounds": rounds, "machine": report.machine(),
            "versions": {s: report.version(s, subjects.Sluice.binary) for s in here}}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sluice", help="the binary (a Release build); build/sluice")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--slow-rounds", type=int, default=1, help="rounds in which the slow ones (Postfix, Haraka) take part")
    p.add_argument("--quick", action="store_true", help="one round, a tenth of the load")
    p.add_argument("--subjects", help="some of them, with commas between")
    p.add_argument("--workloads", help="some of: %s, idle, mta" % ", ".join(WORKLOADS))
    p.add_argument("--haraka", help="folder where `npm install Haraka` was run")
    p.add_argument("--into", default=HERE, help="where REPORT.md, results.json and plots/ go")
    p.add_argument("--add", action="store_true", help="keep what results.json has of other workloads")
    p.add_argument("--again", action="store_true", help="measure nothing: REPORT.md anew from results.json")
    a = p.parse_args()
    if a.sluice:
        subjects.Sluice.binary = os.path.abspath(a.sluice)
    if a.haraka:
        os.environ["HARAKA"] = os.path.abspath(a.haraka)
    results = os.path.join(a.into, "results.json")
    if not a.again:
        for need in ("gcc", "smtp-sink", "openssl"):
            if not shutil.which(need):
                raise SystemExit("bench.py: %s is missing" % need)
        place = tempfile.mkdtemp(prefix="sluice-bench-")
        os.chmod(place, 0o755)  # Postfix' processes have users of their own
        try:
            measured = measure_all(a, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if a.add and os.path.exists(results):
            with open(results) as f:
                before = json.load(f)
            now = {r["workload"] for r in measured["rows"]}
            measured["rows"] = [r for r in before["rows"] if r["workload"] not in now] + measured["rows"]
            measured["versions"] = dict(before["versions"], **measured["versions"])
        with open(results, "w") as f:
            json.dump(measured, f, indent=0)
            f.write("\n")
    with open(results) as f:
        print(report.write(json.load(f), a.into))


if __name__ == "__main__":
    main()
