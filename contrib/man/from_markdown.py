#!/usr/bin/env python3
"""Writes a manual page from one of the README.md that are reference:
    from_markdown.py sluice-lua 7 'scripts for sluice(8) in Lua' < scripts/README.md > contrib/man/sluice-lua.7
    from_markdown.py sluice-filters 5 'filters for sluice(8), built in and in C' < filters/README.md > contrib/man/sluice-filters.5
Knows headings, paragraphs, lists, tables, code in fences and in backquotes, bold, italics, links."""
import re
import sys

DATE = "2026-11-28"


def plain(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def inline(text):
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^* ][^*]*\*|\[[^]]+\]\([^)]+\))", text)
    out = ""
    for part in parts:
        if part.startswith("`"):
            out += "\\fB" + plain(part[1:-1]).removeprefix("\\&") + "\\fR"
        elif part.startswith("**"):
            out += "\\fB" + plain(part[2:-2]).removeprefix("\\&") + "\\fR"
        elif part.startswith("*"):
            out += "\\fI" + plain(part[1:-1]).removeprefix("\\&") + "\\fR"
        elif part.startswith("[") and "](" in part:
            out += plain(part[1:part.index("](")]).removeprefix("\\&")
        else:
            out += plain(part).removeprefix("\\&")
    return "\\&" + out if out[:1] in (".", "'") else out


def cells(row):
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def table(rows):
    """A list of terms: the first column is the term, the others are its explanation."""
    out = []
    for row in rows[2:]:
        name, *rest = cells(row)
        head = [h for h in cells(rows[0])[1:]]
        said = [r if len(rest) == 1 or not h else "%s: %s" % (h, r) for h, r in zip(head, rest) if r]
        out += [".TP", ".B " + inline(name).replace("\\fB", "").replace("\\fR", ""), inline(". ".join(said) or "\u2013")]
    return out


def code(lines):
    return [".PP", ".nf", ".RS 2"] + [plain(l) for l in lines] + [".RE", ".fi"]


def convert(lines):
    out, i = [], 0
    while i < len(lines):
        line = lines[i]
        block = []
        if line.startswith("```"):
            i += 1
            while not lines[i].startswith("```"):
                block.append(lines[i])
                i += 1
            out += code(block)
            i += 1
        elif line.startswith("    ") and line.strip():
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                block.append(lines[i][4:])
                i += 1
            out += code("\n".join(block).rstrip().split("\n"))
        elif line.startswith("#"):
            level, text = re.match(r"(#+)\s*(.*)", line).groups()
            if level != "#":
                out.append((".SH " if level == "##" else ".SS ") + inline(text.upper() if level == "##" else text))
            i += 1
        elif line.startswith("|"):
            while i < len(lines) and lines[i].startswith("|"):
                block.append(lines[i])
                i += 1
            out += table(block)
            out.append(".PP")
        elif re.match(r"[-*] |\d+\. ", line):
            mark, text = re.match(r"([-*]|\d+\.) (.*)", line).groups()
            i += 1
            while i < len(lines) and re.match(r"  +\S", lines[i]):
                text += " " + lines[i].strip()
                i += 1
            out += [".IP %s 4" % ("\\(bu" if mark in "-*" else mark), inline(text)]
        elif line.strip():
            while i < len(lines) and lines[i].strip() and not re.match(r"```|#|\||[-*] |\d+\. ", lines[i]):
                block.append(lines[i].strip())
                i += 1
            out += [".PP", inline(" ".join(block))]
        else:
            i += 1
    return out


def tidy(out):
    """No empty paragraph before a heading, behind one, before another one, or at the end."""
    kept = []
    for n, line in enumerate(out):
        following = out[n + 1] if n + 1 < len(out) else ".SH"
        if line == ".PP" and (following.startswith((".SH", ".SS", ".PP", ".TP", ".IP")) or (kept and kept[-1].startswith((".SH", ".SS")))):
            continue
        kept.append(line)
    return kept


name, section, what = sys.argv[1:4]
print('.\\" Written by from_markdown.py: change the README.md, not this.')
print('.TH %s %s "%s" "Sluice" "%s"' % (name.upper(), section, DATE, "File formats" if section == "5" else "Miscellaneous"))
print(".SH NAME\n%s \\- %s" % (name.replace("-", "\\-"), what))
print("\n".join(tidy([".SH DESCRIPTION"] + convert(sys.stdin.read().splitlines()))))
print(".SH SEE ALSO\n.BR sluice (8),\n.BR sluice\\-config (5),")
print(".BR sluice\\-filters (5)" if name == "sluice-lua" else ".BR sluice\\-lua (7)")
