"""What is sent: {name: content}. The copies in corpus/, and messages that a seeded generator makes of what real mail varies in."""
import os
import random

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
GENERATED = 260
NAMES = ["Subject", "To", "Cc", "X-A", "x-a", "X-Lower", "Received", "Content-Type", "Sender", "Reply-To", "List-Id", "DKIM-Signature", "Keywords", "A"]
VALUES = ["x", " x", " one", "", " ", "   three blanks", "\ta tab", " trailing \t", " folded\r\n by a blank", " folded\r\n\tby a tab", " folded\r\n  \t twice\r\n\t so",
          "\r\n folded at once", " \xe9 8 bit", " \xc3\xa9 utf-8", " =?utf-8?q?caf=C3=A9?=", " " + "x" * 900, " " + "long words " * 90, " a@example.org,\r\n b@example.org",
          " \"A, B\" <a@example.org> (comment)", " colon: inside", " 100% %s", " <1.2@example.org>", " fold\r\n \r\n of a blank line"]
LINES = [b"", b"text", b".", b"..", b".dot", b"...", b"From x", b"\xe9\xff", b"\xc3\xa9", b" ", b"\ttab ", b"trailing ", b"y" * 997, b"--b", b"x: y", b"QUIT", b"RSET"]
WHOLE = "From: a@example.org\r\nTo: k@example.net\r\nDate: Sat, 28 Nov 2026 00:00:00 +0000\r\nMessage-Id: <1@example.org>\r\nSubject: s\r\n"


def corpus():
    found = {}
    for folder in sorted(os.listdir(CORPUS)):
        for name in sorted(os.listdir(os.path.join(CORPUS, folder))) if os.path.isdir(os.path.join(CORPUS, folder)) else []:
            if name.endswith(".eml"):
                with open(os.path.join(CORPUS, folder, name), "rb") as f:
                    found[folder + "/" + name[:-4]] = f.read()
    return found


def generated(seed):
    """Mostly right; here and there what cannot be: a field without a name, a line that is none, no fields at all."""
    dice = random.Random(seed)
    fields = [dice.choice(NAMES) + ":" + dice.choice(VALUES) + "\r\n" for _ in range(dice.choice([0, 1, 3, 6, 12]))]
    if dice.randrange(100) < 85:
        fields += [line + "\r\n" for line in WHOLE.split("\r\n")[:-1]]
    elif dice.randrange(2):
        fields += ["Subject: alone\r\n"]
    dice.shuffle(fields)
    if dice.randrange(100) < 8:
        fields.insert(dice.randrange(len(fields) + 1), dice.choice(["Blank : before the colon\r\n", "Tab\t: before it\r\n", "X-\xe4: a name of 8 bit\r\n"]))
    body = [dice.choice(LINES) for _ in range(dice.choice([0, 0, 1, 2, 5, 20, 60]))]
    if dice.randrange(100) < 10:
        body.append(b"z" * dice.choice([998, 999, 2047, 2048, 2049, 5000, 70000]))
    head = "".join(fields).encode("latin-1")
    if dice.randrange(100) < 6:
        return head or b"Subject: only fields\r\n"  # no empty line, no body
    return head + b"\r\n" + b"".join(line + b"\r\n" for line in body)


def odd():
    """One oddity each."""
    w = WHOLE.encode()
    return {
        "nothing": b"", "an empty line": b"\r\n", "no field": b"\r\nbody\r\n", "no empty line": w, "a body that is no header": b"plain text without a colon\r\nmore\r\n",
        "NUL in the body": w + b"\r\na\0b\r\n", "NUL in a field": b"X-Nul: a\0b\r\n" + w + b"\r\nx\r\n", "bare CR": w + b"\r\na\rb\r\n", "bare LF": w + b"\r\na\nb\r\n",
        "bare CR in a field": b"X-Cr: a\rb\r\n" + w + b"\r\nx\r\n", "no last line end": w + b"\r\nx", "no line end in the header": b"Subject: x", "dots": w + b"\r\n" + b".\r\n..\r\n...\r\n.x\r\n" * 9,
        "a blank before the colon": b"Subject : x\r\n" + w + b"\r\nx\r\n", "a folded field in front": b" folded: x\r\n" + w + b"\r\nx\r\n", "no name": b": x\r\n" + w + b"\r\nx\r\n",
        "an mbox line": b">From x\r\n" + w + b"\r\nx\r\n", "a hundred of one name": b"".join(b"A: %d\r\n" % i for i in range(100)) + w + b"\r\nx\r\n",
        "a field of 30,000": b"X-Long: " + b"long words " * 2700 + b"\r\n" + w + b"\r\nx\r\n", "a field of 70,000": b"X-Long:" + b" folded words\r\n" * 5000 + w + b"\r\nx\r\n",
        "a blank line folded": b"X-Fold: a\r\n \r\n\t\r\n b\r\n" + w + b"\r\nx\r\n", "a megabyte": w + b"\r\n" + b"".join(b"%070d\r\n" % i for i in range(14000)), "no From": w[w.index(b"To:"):] + b"\r\nx\r\n",
        "lines of 8 bit": w + b"\r\n" + bytes(range(128, 256)) + b"\r\n", "Return-Path and Bcc": b"Return-Path: <r@example.org>\r\nBcc: b@example.org\r\n" + w + b"\r\nx\r\n",
        "empty values": b"A:\r\nA: \r\nA:\t\r\nA:\r\n \r\n" + w + b"\r\nx\r\n",
    }


def all_of_them():
    made = {"seed %d" % seed: generated(seed) for seed in range(GENERATED)}
    return {**odd(), **corpus(), **made}
