#!/usr/bin/env python3
"""Writes sluice-config(5) from the one table of directives: sluice check --defaults --json | sluice-config.py > sluice-config.5"""
import json
import sys

HEAD = r""".\" Written by sluice-config.py from "sluice check --defaults": change the table of directives, not this.
.TH SLUICE-CONFIG 5 "2026-11-28" "Sluice" "File formats"
.SH NAME
sluice-config \- the configuration of sluice(8)
.SH DESCRIPTION
The configuration,
.I /etc/sluice/sluice.lua
unless
.B sluice
is told otherwise, is written in Lua, but only as data. Directives are called with a value, a block, or a name and a block:
.PP
.nf
    hostname "mx1.example.org"
    limits { size = "20M" }
    backend "postfix" { "127.0.0.1:10025" }
    chain "inbound" { filter "access" { client = "/etc/postfix/client_access.cidr" } }
    listen "mx" { ":25", backend = "postfix", chain = "inbound" }
.fi
.PP
Also there:
.BR env("NAME",\ "default") ,
.B file "PATH"
(the text of a file, without its last newline),
.B credential "NAME"
(the path of a secret in $CREDENTIALS_DIRECTORY, where systemd puts what
.B LoadCredential=
names: for certificate and key, or as file(credential "NAME") for its text) and
.B include "PATH"
(also with a pattern). Paths are relative to the folder of the file. Names may be used before they are defined. Durations are
written "30s", "1h30m", "500ms"; sizes 1024, "256K", "50M"; addresses "HOST:PORT", "inet6:[::1]:25", "unix:/PATH".
.B sluice check
reports each mistake with its line; a configuration with a mistake is not loaded.
"""
FOOT = r""".SH FILES
.I /usr/share/doc/sluice/examples/sluice.lua
has every directive with its default and an explanation.
.SH SEE ALSO
.BR sluice (8),
.BR sluice\-filters (5)
for the options of the built-in filters,
.BR sluice\-lua (7)
for scripts
"""


def quote(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\\&" + text if text[:1] in (".", "'") else text


def sentence(text):
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith(".") else text + "."


def entry(d):
    words = [sentence(d["doc"])]
    if d["values"]:
        quoted = ['"%s"' % v for v in d["values"]]
        words.append("One of %s." % (", ".join(quoted[:-1]) + " or " + quoted[-1]))
    if d["required"]:
        words.append("Required.")
    if d["default"]:
        words.append("Default: %s." % d["default"])
    return ".TP\n.B %s\n%s" % (quote(d["name"]), quote(" ".join(words)))


out, where = [HEAD.rstrip("\n")], None
for directive in json.load(sys.stdin):
    if directive["where"] != where:
        where = directive["where"]
        out.append(".SH " + quote(where.rstrip(":").upper()))
    out.append(entry(directive))
out.append(FOOT.rstrip("\n"))
print("\n".join(out))
