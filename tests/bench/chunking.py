#!/usr/bin/env python3
"""chunking.py [--sluice PATH] [--rounds N]: content that a filter holds, to a backend with CHUNKING: DATA beside BDAT.

What counts is the CPU of Sluice's own process and the TCP segments of the backend's side, each per message; both ways are interleaved.
Needs gcc and strace (for the system calls). Prints a table in Markdown."""
import argparse
import json
import os
import re
import signal
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "lib"))
from subjects import cpu, free_port, wait_port  # noqa: E402

SIZES = [("4 KiB", "-c 50 -m 10000 -d 100 -l 4096"), ("60 KiB", "-c 50 -m 3000 -d 100 -l 61440"), ("200 KiB", "-c 20 -m 2000 -d 100 -l 204800"),
         ("4 KiB, one at a time", "-c 1 -m 2000 -d 100 -l 4096")]
SCRIPT = "function on.message(s, m) end\n"


def run(load, sink, folder, way, arguments, calls=False):
    port, back = free_port(), free_port()
    taker = subprocess.Popen([sink, str(back)], stdout=subprocess.PIPE, text=True)
    wait_port(back)
    conf = os.path.join(folder, way + ".lua")
    with open(conf, "w") as f:
        f.write('hostname "mx.bench"\nworkers(1)\nbackend "b" { "127.0.0.1:%d", pool = 64, pool_uses = 100000, chunking = "%s" }\n'
                'chain "c" { filter "%s/hold.lua" { } }\nlimits { connections_per_client = 0 }\n'
                'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false }\n' % (back, way, folder, port))
    gateway = subprocess.Popen([os.environ["SLUICE"], "run", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tracer = None
    try:
        wait_port(port)
        if calls:
            trace = os.path.join(folder, "trace")
            tracer = subprocess.Popen(["strace", "-c", "-f", "-o", trace, "-p", str(gateway.pid)], stderr=subprocess.DEVNULL)
            time.sleep(1)
        before = cpu(gateway.pid)
        said = json.loads(subprocess.run([load] + arguments.split() + [str(port)], capture_output=True, text=True, timeout=300).stdout)
        spent = cpu(gateway.pid) - before
    finally:
        if tracer:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        gateway.terminate()
        gateway.wait()
    time.sleep(0.1)
    taker.terminate()
    took = json.loads(taker.communicate()[0])
    n = said["messages"]
    assert not said["errors"] and took["messages"] == n, (said, took)
    if calls:
        total = re.search(r"^100.00\s+\S+\s+\S*\s+(\d+)", open(trace).read(), re.M)
        return int(total.group(1)) / n
    return spent / n * 1e6, (took["segments_in"] + took["segments_out"]) / n, said["p50_ms"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sluice", help="the binary (a Release build)")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    if a.sluice:
        os.environ["SLUICE"] = os.path.abspath(a.sluice)
    folder = tempfile.mkdtemp(prefix="sluice-bench-")
    try:
        for name in "load", "sink":
            subprocess.run(["gcc", "-O2", "-o", os.path.join(folder, name), os.path.join(HERE, name + ".c"), "-lssl", "-lcrypto"], check=True)
        with open(os.path.join(folder, "hold.lua"), "w") as f:
            f.write(SCRIPT)
        load, sink = os.path.join(folder, "load"), os.path.join(folder, "sink")
        print("| held content | | us CPU a message | segments | p50 in ms | system calls |\n|---|---|---|---|---|---|")
        for what, arguments in SIZES:
            results = {"off": [], "auto": []}
            for _ in range(a.rounds):
                for way, rows in results.items():
                    rows.append(run(load, sink, folder, way, arguments))
            for way, rows in results.items():
                columns = list(zip(*rows))
                few = re.sub(r"-m (\d+)", lambda m: "-m %d" % (int(m.group(1)) // 10), arguments)
                calls = run(load, sink, folder, way, few, True) if shutil.which("strace") else 0
                print("| %s | %s | %.1f (%.1f-%.1f) | %.2f | %.3f | %.1f |" %
                      (what, "DATA" if way == "off" else "BDAT", statistics.median(columns[0]), min(columns[0]), max(columns[0]),
                       statistics.median(columns[1]), statistics.median(columns[2]), calls), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
