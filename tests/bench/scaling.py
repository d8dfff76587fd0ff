#!/usr/bin/env python3
"""scaling.py [--sluice PATH] [--rounds N]: what a message costs the gateway as connections, sizes and workers grow (docs/capacity.md).

CPU of Sluice's own process in microseconds a message (4 KiB, 20 messages a connection, empty chain), interleaved, median and range. Two workers
cannot show twice the rate where load and sink need the same cores: what they can show is that a message costs them no more CPU than it costs
two processes that share nothing, which is what a lock or a shared cache line would change. Twice the rate is to be seen where the gateway has
nearly all of the work: a filter that thinks long about each message. Needs what bench.py needs."""
import argparse
import concurrent.futures
import os
import shutil
import socket
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "lib"))
import report  # noqa: E402
import subjects  # noqa: E402
from bench import Bench  # noqa: E402
from subjects import cpu, resident, wait_port  # noqa: E402

WORK = "function on.headers(s, m)\n  local n = 0\n  for i = 1, %d do n = (n * 31 + i) %% 65521 end\n  m.headers:add('X-Work', tostring(n))\nend\n"


def start(bench, kind, folder):
    s = kind(os.path.join(bench.place, folder), bench.sink_port, bench.cert)
    s.start()
    wait_port(s.port)
    bench.run_load(s, "-c 50 -m 1000 -d 20")
    return s


def cost(bench, s, arguments):
    before = cpu(s.roots()[0])
    said = bench.run_load(s, arguments)
    if said["errors"]:
        print("# %d errors with %s" % (said["errors"], arguments), file=sys.stderr)
    return (cpu(s.roots()[0]) - before) / max(said["messages"], 1) * 1e6, said["rate"]


def spread(rows):
    return report.spread([r[0] for r in rows])


def active(bench, rounds):
    s, rows = start(bench, subjects.Sluice, "active"), {}
    for _ in range(rounds):
        for c in 1, 10, 50, 200, 1000:
            rows.setdefault(c, []).append(cost(bench, s, "-c %d -m %d -d 20" % (c, max(4000, c * 20))))
    s.stop()
    print(report.table(["clients that send at once", "us CPU a message"], [["%d" % c, spread(r)] for c, r in rows.items()]))


def idle(bench, rounds):
    rows, s, held = [], start(bench, subjects.Sluice, "idle"), []
    first = resident(s.roots()[0])
    for count in 0, 1000, 5000, 10000:
        while len(held) < count:
            c = socket.create_connection(("127.0.0.1", s.port), 30)
            c.recv(600)
            c.sendall(b"EHLO idle.example.org\r\n")
            c.recv(600)
            held.append(c)
        grown = resident(s.roots()[0]) - first
        some = [cost(bench, s, "-c 50 -m 8000 -d 20") for _ in range(rounds)]
        rows.append(["%d" % count, spread(some), "%.2f" % (grown / count) if count else "-"])
    for c in held:
        c.close()
    s.stop()
    print(report.table(["idle connections beside", "us CPU a message", "KiB resident per idle connection"], rows))


def cost_of_two(bench, pair, arguments):
    """The same load, half of it to each of two gateways that share nothing."""
    before = sum(cpu(s.roots()[0]) for s in pair)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda s: bench.run_load(s, arguments), pair))
    messages = sum(one["messages"] for one in said)
    return (sum(cpu(s.roots()[0]) for s in pair) - before) / messages * 1e6, sum(one["rate"] for one in said)


def workers(bench, rounds):
    one, two = start(bench, subjects.Sluice, "one"), start(bench, subjects.SluiceTwo, "two")
    pair, rows = [one, start(bench, subjects.Sluice, "other")], {}
    loads = {"1 message a connection": "-c %d -m %d", "100 messages a connection": "-c %d -m %d -d 100", "the same, pipelined": "-c %d -m %d -d 100 -p"}
    for _ in range(rounds):
        for what, arguments in loads.items():
            rows.setdefault((what, "one"), []).append(cost(bench, one, arguments % (50, 12000)))
            rows.setdefault((what, "two"), []).append(cost(bench, two, arguments % (50, 12000)))
            rows.setdefault((what, "pair"), []).append(cost_of_two(bench, pair, arguments % (25, 6000)))
    for s in [two] + pair:
        s.stop()
    table = []
    for what in loads:
        cells = [rows[(what, k)] for k in ("one", "two", "pair")]
        table.append([what] + [spread(c) for c in cells] + [report.ratio_text([t[0] / p[0] for t, p in zip(cells[1], cells[2])]),
                     ", ".join("%.0f" % statistics.median(x[1] for x in c) for c in cells)])
    print(report.table(["us CPU a message", "1 worker", "2 workers", "2 processes of 1 worker", "2 workers to 2 processes",
                        "messages a second (load and sink on the same cores)"], table))


def rates(bench, rounds):
    """One worker and two, where load and sink have next to nothing to do."""
    table = []
    for ms, messages in (1, 6000), (5, 1200):
        up, rows = {}, {1: [], 2: []}
        for n in rows:
            s = type("Worker", (subjects.Sluice,), {"chain": 'filter "./work.lua" { }', "workers": n})(
                os.path.join(bench.place, "rates%d.%d" % (n, ms)), bench.sink_port, bench.cert)
            s.write("work.lua", WORK % (60000 * ms))
            s.start()
            wait_port(s.port)
            bench.run_load(s, "-c 40 -m 400")
            up[n] = s
        for _ in range(rounds):
            for n, s in up.items():
                before = cpu(s.roots()[0])
                said = bench.run_load(s, "-c 40 -m %d -d 20" % messages)
                if said["errors"]:
                    print("# %d errors with a filter of %d ms" % (said["errors"], ms), file=sys.stderr)
                rows[n].append((said["rate"], (cpu(s.roots()[0]) - before) * said["rate"] / max(said["messages"], 1)))
        for s in up.values():
            s.stop()
        table.append(["a filter of about %d ms" % ms] + ["%.0f" % statistics.median(r[0] for r in rows[n]) for n in rows] +
                     [report.ratio_text([two[0] / one[0] for one, two in zip(rows[1], rows[2])]), "%.2f" % statistics.median(r[1] for r in rows[2])])
    print(report.table(["messages a second", "1 worker", "2 workers", "2 to 1", "cores that 2 workers had"], table))


def sizes(bench, rounds):
    s, rows = start(bench, subjects.Sluice, "sizes"), {}
    for _ in range(rounds):
        for octets in 1024, 4096, 20480, 76800, 512000:
            rows.setdefault(octets, []).append(cost(bench, s, "-c 20 -m %d -d 20 -l %d" % (4000 if octets < 50000 else 1500, octets)))
    s.stop()
    print(report.table(["message of", "us CPU"], [["%d KiB" % (o // 1024), spread(r)] for o, r in rows.items()]))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sluice", help="the binary (a Release build); build/sluice")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    if a.sluice:
        subjects.Sluice.binary = os.path.abspath(a.sluice)
    place = tempfile.mkdtemp(prefix="sluice-bench-")
    os.chmod(place, 0o755)
    bench = Bench(place, False)
    try:
        for part in active, idle, workers, rates, sizes:
            part(bench, a.rounds)
    finally:
        bench.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
