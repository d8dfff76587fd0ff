#!/usr/bin/env python3
"""bench.py [--sluice PATH] [--rounds N] [--quick]: Sluice beside HAProxy's TCP mode (which parses nothing) in one run.

Load and sink share the machine with what is measured, so what counts is the CPU of the proxy's own process (all threads,
nanoseconds of the kernel's process clock), per message or per GiB; subjects are interleaved, the median of the rounds is shown with
its range. Needs gcc, smtp-sink (package postfix), haproxy. Prints a table in Markdown."""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "dialog"))
os.environ.setdefault("SLUICE", os.path.join(ROOT, "build", "sluice"))
from gateway import certificate, free_port  # noqa: E402

WORKLOADS = [  # name, what, load's arguments, unit
    ("w1", "4 KiB, 1 message a connection, 50 at once", "-c 50 -m 6000", "us"),
    ("w2", "4 KiB, 100 messages a connection", "-c 50 -m 20000 -d 100", "us"),
    ("w2p", "the same, pipelined", "-c 50 -m 20000 -d 100 -p", "us"),
    ("lat", "one client, 1 message a connection: p50 in ms", "-c 1 -m 1500", "ms"),
    ("w3", "1 MiB, 64 at once: s CPU per GiB", "-c 64 -m 768 -d 12 -l 1048576", "s"),
    ("w4", "10 MiB, 4 at once: s CPU per GiB", "-c 4 -m 100 -d 25 -l 10485760", "s"),
]
FILTERS = """filter "access" { client = { ["192.0.2.66"] = "REJECT" }, sender = { ["spam@example.com"] = "REJECT" } },
  filter "access" { recipient = { ["nobody@example.com"] = "REJECT" } },
  filter "ratelimit" { by = "ip", count = "messages", limit = 100000000, window = "1h" },
  filter "recipients.lua" { domains = { "example.net" }, allow = { "@example.net" } },
  filter "clean_headers.lua" { remove = { "X-Originating-IP" } }"""


def cpu(pid):
    """Seconds of CPU of the process and of its children that were waited for."""
    total = time.clock_gettime(clock_of(pid))
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return total + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def clock_of(pid):
    return ((~pid) << 3) | 2  # CPUCLOCK_SCHED of a process (linux/posix-timers.h)


def rss(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def wait_port(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nothing listens on port %d" % port)


class Subject:
    def __init__(self, name, folder, sink, cert):
        self.name, self.port, self.tls_port = name, free_port(), free_port()
        conf = os.path.join(folder, name.replace(" ", "_"))
        if name == "haproxy":
            with open(conf, "w") as f:
                f.write("global\n maxconn 9000\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 5m\n timeout server 5m\n"
                        "frontend f\n bind 127.0.0.1:%d\n default_backend b\n"
                        "frontend t\n bind 127.0.0.1:%d ssl crt %s/both.pem\n default_backend b\n"
                        "backend b\n server s 127.0.0.1:%d\n" % (self.port, self.tls_port, cert, sink))
            command = ["haproxy", "-db", "-f", conf]
        else:
            with open(conf, "w") as f:
                f.write('hostname "mx.bench"\nworkers(1)\ntls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }\n'
                        'backend "b" { "127.0.0.1:%d", pool = 64, pool_uses = 100000 }\nchain "c" { %s }\n'
                        'limits { connections = 15000, connections_per_client = 0 }\n'
                        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false }\n'
                        'listen "t" { "127.0.0.1:%d", tls = "t", implicit = true, backend = "b", chain = "c", received = false }\n'
                        % (cert, cert, sink, FILTERS if "5" in name else "", self.port, self.tls_port))
            command = [os.environ["SLUICE"], "run", "-c", conf]
        self.process = subprocess.Popen(command, stdout=open(conf + ".log", "w"), stderr=subprocess.STDOUT)
        wait_port(self.port)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_load(load, subject, arguments, unit):
    before = cpu(subject.process.pid)
    out = subprocess.run([load] + arguments.split() + [str(subject.port)], capture_output=True, text=True, timeout=300)
    spent = cpu(subject.process.pid) - before
    result = json.loads(out.stdout)
    if result["errors"]:
        print("# %s: %d errors" % (subject.name, result["errors"]), file=sys.stderr)
    if unit == "ms":
        return result["p50_ms"]
    if unit == "us":
        return spent / max(result["messages"], 1) * 1e6
    size = int(re.search(r"-l (\d+)", arguments).group(1))
    return spent / (result["messages"] * size / 2**30)


def idle(subject, count, tls):
    before = rss(subject.process.pid)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", subject.tls_port if tls else subject.port), 20)
        if tls:
            s = context.wrap_socket(s)
        s.recv(600)
        s.sendall(b"EHLO idle.example.org\r\n")
        s.recv(600)
        held.append(s)
    time.sleep(0.5)
    each = (rss(subject.process.pid) - before) / count
    for s in held:
        s.close()
    time.sleep(1)
    return each


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sluice", help="the binary (a Release build)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--quick", action="store_true", help="one round, a tenth of the load")
    a = p.parse_args()
    if a.sluice:
        os.environ["SLUICE"] = os.path.abspath(a.sluice)
    for need in ("gcc", "smtp-sink", "haproxy"):
        if not shutil.which(need):
            raise SystemExit("bench.py: %s is missing" % need)
    folder = tempfile.mkdtemp(prefix="sluice-bench-")
    load = os.path.join(folder, "load")
    subprocess.run(["gcc", "-O2", "-o", load, os.path.join(HERE, "load.c")], check=True)
    cert = certificate()
    with open(cert + "/both.pem", "w") as f:
        f.write(open(cert + "/cert.pem").read() + open(cert + "/key.pem").read())
    sink_port = free_port()
    sink = subprocess.Popen(["smtp-sink", "-m", "12000", "-u", "nobody", "127.0.0.1:%d" % sink_port, "1000"] if os.geteuid() == 0 else
                            ["smtp-sink", "-m", "12000", "127.0.0.1:%d" % sink_port, "1000"], cwd="/", stderr=subprocess.DEVNULL)
    wait_port(sink_port)
    subjects = []
    try:
        subjects = [Subject(n, folder, sink_port, cert) for n in ("haproxy", "sluice", "sluice 5 filters")]
        table = {}
        for name, what, arguments, unit in WORKLOADS:
            if a.quick:
                arguments = re.sub(r"-m (\d+)", lambda m: "-m %d" % max(int(m.group(1)) // 10, 40), arguments)
            for _ in range(1 if a.quick else a.rounds):
                for s in subjects:
                    table.setdefault((name, s.name), []).append(run_load(load, s, arguments, unit))
        count = 200 if a.quick else 2000
        for s in subjects:
            table[("idle", s.name)] = [idle(s, count, False)]
            table[("idle TLS", s.name)] = [idle(s, count, True)]
        show(table, subjects, count)
    finally:
        for s in subjects:
            s.stop()
        sink.terminate()
        sink.wait()
        shutil.rmtree(folder, ignore_errors=True)


def show(table, subjects, count):
    rows = [(n, w, u) for n, w, _, u in WORKLOADS]
    rows += [("idle", "KiB resident per idle connection (%d)" % count, ""), ("idle TLS", "the same past a TLS handshake", "")]
    print("| workload | " + " | ".join(s.name for s in subjects) + " | ratio | ratio, 5 filters |")
    print("|---|" + "---|" * (len(subjects) + 2))
    for name, what, unit in rows:
        values = [table[(name, s.name)] for s in subjects]
        middle = [statistics.median(v) for v in values]
        digits = "%.0f" if unit == "us" else "%.2f"
        cells = [digits % m + (" (" + digits % min(v) + "-" + digits % max(v) + ")" if len(v) > 1 else "") for m, v in zip(middle, values)]
        print("| %s: %s%s | %s | %.2f | %.2f |" % (name, what, ", us CPU a message" if unit == "us" else "", " | ".join(cells),
                                                  middle[1] / middle[0], middle[2] / middle[0]))


if __name__ == "__main__":
    main()
