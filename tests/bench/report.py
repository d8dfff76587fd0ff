"""report.py: tables and plots of what bench.py measured, and what of issue "fast, and hard to break" is met (TARGETS)."""
import datetime
import os
import re
import statistics
import subprocess

TITLES = {
    "w1": ("4 KiB, 1 message a connection, 50 at once", "us"),
    "w2": ("4 KiB, 100 messages a connection, 50 at once", "us"),
    "w2p": ("the same, MAIL, RCPT and DATA pipelined", "us"),
    "lat": ("4 KiB, one client, 1 message a connection", "us"),
    "w3": ("1 MiB, 64 at once", "s"),
    "w4": ("10 MiB, 4 at once", "s"),
    "w6": ("TLS, full handshake, 4 KiB, 1 message a connection, 20 at once", "us"),
    "w6r": ("the same, sessions resumed", "us"),
    "w6b": ("TLS, 10 MiB, 4 at once", "s"),
}
# workload, subject, what of it, against whom (None: as it is), at most
TARGETS = [
    ("w1", "sluice", "proxy", "haproxy", 0.55), ("w1", "sluice", "total", "haproxy", 0.63),
    ("w1", "sluice 5 filters", "proxy", "haproxy", 0.80), ("w1", "sluice 5 filters", "total", "haproxy", 0.75),
    ("w2", "sluice", "proxy", "haproxy", 0.75), ("w2", "sluice 5 filters", "proxy", "haproxy", 1.2),
    ("w2p", "sluice", "proxy", "haproxy", 1.1), ("w2p", "sluice", "total", "haproxy", 1.1), ("w2p", "sluice 5 filters", "proxy", "haproxy", 2.0),
    ("lat", "sluice", "p50", "haproxy", 0.55), ("lat", "sluice 5 filters", "p50", "haproxy", 0.65),
    ("w3", "sluice", "proxy", "haproxy", 1.05), ("w3", "sluice reader", "proxy", "haproxy", 1.5),
    ("w4", "sluice", "proxy", "haproxy", 1.05), ("w4", "sluice reader", "proxy", "haproxy", 1.5),
    ("w6", "sluice", "proxy", "haproxy", 0.90), ("w6r", "sluice", "proxy", "haproxy", 0.75), ("w6b", "sluice", "proxy", "haproxy", 1.0),
    ("idle", "sluice", "each", None, 2.0), ("idle", "sluice 5 filters", "each", None, 2.0),
    ("idle TLS", "sluice", "each", None, 16), ("idle TLS", "sluice 5 filters", "each", None, 16),
    ("mta", "sluice", "total", "mta", 1.0), ("mta", "sluice 5 filters", "total", "mta", 1.1),
]
WORDS = {"proxy": "CPU of the proxy", "total": "CPU in total", "p50": "median latency", "each": "KiB resident per connection"}
COLOURS = {"direct": "#9aa5b1", "haproxy": "#4c78a8", "haproxy tuned": "#7ba3cc", "nginx": "#59a14f", "postfix": "#b07aa1", "mta": "#b07aa1",
           "haraka": "#9c755f", "sluice": "#e15759", "sluice 5 filters": "#f28e2b", "sluice reader": "#edc948"}


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.+)", f.read())
    return {"cores": os.cpu_count(), "model": model.group(1).strip() if model else "?", "kernel": os.uname().release.split("-")[0],
            "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}


def version(subject, binary):
    commands = {"haproxy": ["haproxy", "-v"], "nginx": ["nginx", "-v"], "postfix": ["postconf", "-d", "-h", "mail_version"], "haraka": ["node", "--version"],
                "sluice": [binary, "--version"]}
    try:
        out = subprocess.run(commands[subject], capture_output=True, text=True, check=False)
    except (KeyError, OSError):
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", out.stdout + out.stderr)
    return ("node " if subject == "haraka" else "") + (found.group(0) if found else "?")


def rows_of(data, workload, subject):
    return [r for r in data["rows"] if r["workload"] == workload and r["subject"] == subject]


def names_of(data, workload):
    names = []
    for r in data["rows"]:
        if r["workload"] == workload and r["subject"] not in names:
            names.append(r["subject"])
    return names


def number(x):
    return "%.0f" % x if x >= 100 else "%.1f" % x if x >= 10 else "%.2f" % x


def spread(values):
    if not values:
        return "-"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else "%s (%s-%s)" % (middle, number(min(values)), number(max(values)))


def ratios(data, workload, subject, what, against):
    """Round by round: what both did in the same one."""
    pairs = zip(rows_of(data, workload, subject), rows_of(data, workload, against))
    return [a[what] / b[what] for a, b in pairs if b[what]]


def ratio_text(values):
    return "-" if not values else "%.2f" % statistics.median(values) + (" (%.2f-%.2f)" % (min(values), max(values)) if len(values) > 1 else "")


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


def target_table(data):
    rows = []
    for workload, subject, what, against, most in TARGETS:
        if against:
            values = ratios(data, workload, subject, what, against)
        else:
            values = [r[what] for r in rows_of(data, workload, subject)]
        if not values:
            continue
        middle = statistics.median(values)
        verdict = "met" if middle <= most + 0.005 else "**missed**"
        rows.append([workload, subject, WORDS[what] + (", to " + ("Postfix alone" if against == "mta" else "HAProxy's") if against else ""),
                     ratio_text(values), "%.2f" % most, verdict])
    return table(["workload", "subject", "what", "measured", "at most", ""], rows)


def work_table(data, workload):
    unit = TITLES[workload][1]
    rows = []
    for name in names_of(data, workload):
        mine = rows_of(data, workload, name)
        cells = [name, "-" if name == "direct" else spread([r["proxy"] for r in mine]), spread([r["total"] for r in mine])]
        for what in "proxy", "total":
            cells.append("-" if name == "direct" and what == "proxy" else ratio_text(ratios(data, workload, name, what, "haproxy")))
        cells += [spread([r["p50"] for r in mine]), "%d" % sum(r["errors"] for r in mine)]
        if workload == "w6r":
            cells.append("%.0f%%" % (100 * sum(r["resumed"] for r in mine) / max(1, sum(r["handshakes"] for r in mine))))
        rows.append(cells)
    each = "us a message" if unit == "us" else "s per GiB"
    head = ["", "proxy CPU, " + each, "total CPU, " + each, "proxy, to HAProxy", "total, to HAProxy", "p50 ms", "errors"]
    return table(head + (["resumed"] if workload == "w6r" else []), rows)


def idle_table(data):
    rows = []
    for name in names_of(data, "idle"):
        cells = [name]
        for work in "idle", "idle TLS":
            found = rows_of(data, work, name)
            cells.append("%.1f (%d)" % (found[0]["each"], found[0]["count"]) if found else "-")
        rows.append(cells)
    return table(["", "KiB per plain connection (held)", "KiB past a TLS handshake (held)"], rows)


def mta_table(data):
    rows = []
    for name in names_of(data, "mta"):
        mine = rows_of(data, "mta", name)
        rows.append(["Postfix alone" if name == "mta" else "Postfix behind " + name, spread([r["total"] for r in mine]),
                     spread([r["proxy"] for r in mine]) if name != "mta" else "-", ratio_text(ratios(data, "mta", name, "total", "mta")),
                     spread([r["p50"] for r in mine]), "%d" % sum(r["errors"] for r in mine)])
    return table(["", "CPU of Postfix and proxy, us a message", "of it the proxy's", "to Postfix alone", "p50 ms", "errors"], rows)


# ---- plots


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def bars(title, unit, groups):
    """An SVG of horizontal bars: groups of (heading, [(name, low, middle, high)]); each group has a scale of its own. Bars more than four
    times as long as HAProxy's are cut, with their number beside them."""
    left, width, height, y = 150, 430, 17, 40
    out = []
    for heading, rows in groups:
        if not rows:
            continue
        base = next((r[2] for r in rows if r[0] == "haproxy"), None)
        most = max(r[3] for r in rows)
        most = min(most, base * 4) if base else most
        out.append('<text x="8" y="%d" font-weight="bold">%s</text>' % (y + 12, escape(heading)))
        y += 20
        for name, low, middle, high in rows:
            def x(v):
                return left + width * min(v, most) / most
            out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 6, y + 12, escape(name)))
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (left, y + 1, x(middle) - left, height - 3,
                                                                                    COLOURS.get(name, "#888")))
            if high > low and middle <= most:
                out.append('<path d="M%.1f %d H%.1f" stroke="#222" stroke-width="1.5"/>' % (x(low), y + 8, x(high)))
            out.append('<text x="%.1f" y="%d">%s%s</text>' % (max(x(middle), x(high)) + 6, y + 12, number(middle), " (cut)" if middle > most else ""))
            y += height
        y += 10
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="680" height="%d" font-family="sans-serif" font-size="11" fill="#222">'
            '<rect width="100%%" height="100%%" fill="#fff"/><text x="8" y="20" font-size="14" font-weight="bold">%s</text>'
            '<text x="8" y="34" fill="#666">%s; line: lowest to highest round</text>%s</svg>\n') % (y + 4, escape(title), escape(unit), "\n".join(out))


def group(data, workload, what, heading, leave=()):
    rows = []
    for name in names_of(data, workload):
        values = [r[what] for r in rows_of(data, workload, name)]
        if name not in leave:
            rows.append((name, min(values), statistics.median(values), max(values)))
    return heading, rows


def plots(data):
    def work(name, what="proxy", leave=("direct",)):
        return group(data, name, what, "%s: %s" % (name, TITLES[name][0]), leave)
    sheets = {
        "messages": ("CPU of the proxy for a message of 4 KiB", "microseconds", [work("w1"), work("w2"), work("w2p")]),
        "total": ("CPU of proxy, sink and load for a message of 4 KiB", "microseconds", [work(w, "total", ()) for w in ("w1", "w2", "w2p")]),
        "latency": ("Median latency of one client", "milliseconds", [work("lat", "p50", ())]),
        "bulk": ("CPU of the proxy for large messages", "seconds per GiB", [work("w3"), work("w4"), work("w6b")]),
        "tls": ("CPU of the proxy for a message of 4 KiB over TLS (HAProxy: implicit TLS, others: STARTTLS)", "microseconds", [work("w6"), work("w6r")]),
        "idle": ("Memory of an idle connection", "KiB resident", [group(data, "idle", "each", "plain", ("postfix",)),
                                                                   group(data, "idle TLS", "each", "past a TLS handshake", ("postfix",))]),
        "mta": ("CPU of Postfix and what stands before it, a message of 4 KiB on a connection of its own", "microseconds",
                [group(data, "mta", "total", "Postfix and proxy")]),
    }
    return {name: bars(*sheet) for name, sheet in sheets.items() if any(rows for _, rows in sheet[2])}


def write(data, into):
    """REPORT.md and plots/ in that folder; the text of the report."""
    pictures = plots(data)
    os.makedirs(os.path.join(into, "plots"), exist_ok=True)
    for name, svg in pictures.items():
        with open(os.path.join(into, "plots", name + ".svg"), "w") as f:
            f.write(svg)
    m, has = data["machine"], {r["workload"] for r in data["rows"]}
    loud = [r["others"] for r in data["rows"] if "others" in r]
    out = ["# Sluice beside its peers\n\nMade by `tests/bench/bench.py` on %s: %s, %d cores, Linux %s, loopback, %d round%s. %s.\n" % (
        m["when"], m["model"], m["cores"], m["kernel"], data["rounds"], "s" if data["rounds"] > 1 else "",
        ", ".join("%s %s" % (k, v) for k, v in data["versions"].items() if v))]
    out.append(METHOD)
    if loud:
        out.append("CPU of the machine that went to processes which were not measured: median %.0f%% of its busy time, at most %.0f%%.%s\n" % (
            100 * statistics.median(loud), 100 * max(loud), " Trust the ratios, not the rates." if statistics.median(loud) > 0.1 else ""))
    for name, why in data["skipped"].items():
        out.append("Not measured: %s: %s.\n" % (name, why))
    out.append("## Targets\n\n" + target_table(data))
    for title, works, picture in (("Messages of 4 KiB", ("w1", "w2", "w2p"), ("messages", "total")), ("Latency", ("lat",), ("latency",)),
                                  ("Large messages", ("w3", "w4", "w6b"), ("bulk",)), ("TLS", ("w6", "w6r"), ("tls",))):
        if has & set(works):
            out.append("## %s\n" % title)
            out += ["![%s](plots/%s.svg)\n" % (title, p) for p in picture if p in pictures]
            out += ["**%s**: %s\n\n%s" % (w, TITLES[w][0], work_table(data, w)) for w in works if w in has]
    if "idle" in has:
        out.append("## Idle connections\n\n![Idle connections](plots/idle.svg)\n\n" + idle_table(data))
    if "mta" in has:
        out.append("## A real Postfix behind\n\nPostfix queues and throws away; measured until its queue is empty. 4 KiB, 1 message a connection, 20 at once.\n\n"
                   "![Postfix behind](plots/mta.svg)\n\n" + mta_table(data))
    text = "\n".join(out)
    kept = own_section(into)
    with open(os.path.join(into, "REPORT.md"), "w") as f:
        f.write(text + kept)
    return text


# milter.py's section, the last of REPORT.md: each of the two writers keeps what the other has written.
SECTION = "## As a milter"


def parted(into):
    path = os.path.join(into, "REPORT.md")
    if not os.path.exists(path):
        return "", ""
    with open(path) as f:
        others, _, own = f.read().partition("\n" + SECTION + "\n")
    return others, own


def own_section(into):
    own = parted(into)[1]
    return "\n" + SECTION + "\n" + own if own else ""


def other_sections(into):
    return parted(into)[0]


METHOD = """Each cell is the median of the rounds, in brackets the lowest and the highest. Subjects take turns within a round, and a ratio is taken
within a round: so what else the machine did touches both sides of it. Proxy CPU is that of the whole tree of processes; total CPU is
proxy, sink (`smtp-sink`) and load together, because on loopback who sends does part of the receiver's work. Latency is from connecting (or, on a
connection that is kept, from MAIL) to the reply to the end of mail data; at 50 at once it is what a busy machine makes of it.

HAProxy runs in TCP mode with one thread: it parses nothing and opens a backend connection for each client; "tuned" has buffers of 64 KiB and
`tcp-smart-accept`, `tcp-smart-connect`. Over TLS it can do implicit TLS only, two round trips less than STARTTLS. nginx' mail proxy runs with one worker and
answers itself where to go (a second nginx, counted). Postfix is `smtpd_proxy_filter`, Haraka `queue/smtp_proxy`, both to the same sink.
Sluice has one worker, `identity = "none"` and its pool on. "5 filters" are `access` twice, `ratelimit`, `recipients.lua` and
`clean_headers.lua`: three in C, two in Lua. "reader" is a Lua filter that looks for a text in every octet of the body.
"""
