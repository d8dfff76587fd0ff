"""The differences that may be, as the test knows them: a function for each row of docs/differences.md, of the same name. `a` is the reply
of Postfix alone, `b` that of Sluice before it to the same command, `later` what Sluice said from there on."""
import os
import re

from gateway import ROOT

ROWS = {}  # of replies
KEYWORDS, NO_HELLO, SPELLING, FIRST_LINE = "keywords", "no-hello", "spelling", "first-line"  # of EHLO, and of what is delivered
TAKEN, REFUSED = (2, 3), (5,)


def row(function):
    ROWS[function.__name__.replace("_", "-")] = function
    return function


def documented():
    with open(os.path.join(ROOT, "docs", "differences.md")) as f:
        return re.findall(r"^\| `([a-z-]+)` \|", f.read(), re.M)


def classes(a, b, of_a, of_b):
    return a.code // 100 in of_a and b.code // 100 in of_b


def path_of(reply):
    """What stands behind the colon of MAIL or RCPT that Postfix takes and Sluice refuses for its syntax."""
    m = re.match(r"\s*(?:MAIL\s+FROM|RCPT\s+TO):(.*)", reply.to, re.I | re.S)
    return m.group(1) if m else None


@row
def pipelining(a, b, later):
    return b.code == 554 and b.text.startswith("5.5.0 SMTP protocol synchronization")


@row
def auth_of_a_refused_sender(a, b, later):
    return a.code == 503 and a.text == "5.5.4 Error: multiple AUTH= options\n" and b.code == 250


@row
def mail_later(a, b, later):
    """And each recipient hears it, until there is another MAIL."""
    if not (re.match(r"\s*MAIL\s", a.to, re.I) and classes(a, b, (4, 5), (2,))):
        return False
    for reply in later[1:]:
        if re.match(r"\s*(MAIL|RSET|EHLO|HELO|STARTTLS)\b", reply.to, re.I):
            break
        if re.match(r"\s*(RCPT|DATA|BDAT)\b", reply.to, re.I) and reply.code // 100 in TAKEN:
            return False
    return True


@row
def bare_line_ends(a, b, later):
    content = re.match(r"\.$|BDAT ", b.to, re.I) and b.text == "5.5.2 Bare CR or bare LF in mail data\n"
    command = b.text == "5.5.2 Bare CR, bare LF or NUL in a command\n" and re.search(r"[\r\n]", b.to)
    waits = b.code == -1 and "\n" in b.to  # for the CRLF that ends the command
    return a.code // 100 in TAKEN and bool(content or command or waits)


@row
def controls(a, b, later):
    return classes(a, b, TAKEN, REFUSED) and re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", b.to) is not None


@row
def length(a, b, later):
    name = re.match(r"\s*(?:EHLO|HELO)\s+(\S.*)", b.to, re.I)
    orcpt = b.text == "5.5.4 Bad value of parameter ORCPT\n" and len(b.to) > 1200
    long = orcpt or b.text == "5.1.3 Path too long\n" or (name and len(name.group(1)) > 255 and b.code == 501)
    return classes(a, b, TAKEN, REFUSED) and bool(long)


@row
def doubtful(a, b, later):
    """Comments, two "@", brackets that do not pair or are doubled, a doubled colon, a backslash outside of quotes, a path or a parameter
    with quotes that is none of RFC 5321, a comma behind, and names without a domain that carry one."""
    path = path_of(b)
    if path is None or not classes(a, b, (2,), REFUSED) or b.code != 501:
        return False
    path = path.strip(" \t")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", path)
    address = bare.split(">")[0].strip("< \t")
    loose = re.search(r"[()\\]|<[^<>]*<|<\s+@|^:|@[^:,>]*@", bare) or (bare[:1] != "<" and ">" in bare)
    no_domain = "@" not in address.split(":")[-1] and (re.search(r"[!%:Q]|^\.*$|\.\.|^\.|\.$", address) or address.startswith("@"))
    return bool(loose or no_domain or re.search(r"ORCPT=\S*Q|^\S+,(\s|$)", bare))


@row
def empty_local_part(a, b, later):
    path = path_of(b)
    return path is not None and classes(a, b, (2,), REFUSED) and re.match(r'\s*<?\s*(@[^:]*|"".*)$', path) is not None


@row
def no_smtp(a, b, later):
    return a.code == 221 and a.text.startswith("2.7.0 Error: I can break rules, too") and b.code in (500, 421)


@row
def verbs(a, b, later):
    verb = b.to.split()[0].upper() if b.to.split() else ""
    return (verb == "HELP" and b.code == 214) or (verb == "VRFY" and b.code == 252) or (verb == "ETRN" and b.code == 502)


@row
def empty_chunk(a, b, later):
    return a.code == 551 and b.to.upper().startswith("BDAT 0") and b.code == 250


def first_difference(alone, behind):
    """(row, None): it is that row; (None, text): it is none; (None, None): there is none. What comes behind it follows from it."""
    for i in range(max(len(alone), len(behind))):
        a = alone[i] if i < len(alone) else None
        b = behind[i] if i < len(behind) else None
        if a and b and not pipelining(a, b, None) and a.code // 100 == b.code // 100 and (a.enhanced[:1] == b.enhanced[:1] or not a.enhanced):
            continue
        for name, function in ROWS.items():
            if a and b and function(a, b, behind[i:]):
                return name, None
        return None, "%r: alone %s, behind Sluice %s" % ((a or b).to[:100], *[(r.code, r.enhanced, r.text) if r else "nothing" for r in (a, b)])
    return None, None
