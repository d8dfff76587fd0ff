"""What Postfix and Sendmail make of a milter's answers, against table.txt. SLUICE_WRITE_TABLE=1 writes that file anew, below its words."""
import os
import re
import shutil
import tempfile
import threading

import pytest
from cases import CASES, WHOLE
from mtas import Postfix, Sendmail, wait_for
from milter_peers import Milter, Sink, client

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "table.txt")
KEYS = ("said", "fields", "body", "from", "to", "heard")
ADDRESSED = re.findall(r"(?m)^(From|To|Date|Message-Id): (.*)\r$", WHOLE)


def script_of(stages):
    script = {}
    for stage in stages.split(" / "):
        name, _, packets = stage.partition(": ")
        script[name] = packets.split("; ")
    return script


def field(raw):
    """A field as the table has it: what the client or the MTA wrote, by its name only; its value else."""
    name, _, value = raw.partition(":")
    if (name, value[1:]) in ADDRESSED:
        return name
    if (name == "Received" and "mta.example.net" in value) or (name in ("Date", "Message-Id") and re.search(r"\+0000|GMT|@mta", value)) or name == "Full-Name":
        return name + "(own)"
    return name + ":" + re.sub(r"[^!-~]", lambda m: {"\n": "\\n", "\r": "\\r", "\t": "\\t", " ": "_"}.get(m.group(), "\\x%02x" % ord(m.group())), value)


def delivered(mail):
    sender, recipients, content = mail
    head, _, body = content.decode("latin-1").partition("\r\n\r\n")
    fields = re.split(r"\r\n(?![ \t])", head)
    plain = re.sub(r" (SIZE|BODY)=\S+", "", sender)
    named = sorted(re.sub(r"k\d+@", "k@", r) for r in recipients)
    return {"fields": " ".join(field(f.replace("\r\n", "\n")) for f in fields), "body": body.encode("unicode_escape").decode(),
            "from": plain, "to": " ".join(re.sub(r" ORCPT=rfc822;([^ ]*)", lambda m: "" if m.group(1) in r else m.group(), r) for r in named)}


class Player:
    """One MTA, through some of the cases."""
    def __init__(self, kind, cases):
        self.cases, self.seen, self.failed = cases, {}, None
        self.folder = tempfile.mkdtemp(prefix="sluice-mta-")
        os.chmod(self.folder, 0o755)
        self.sink, self.milter = Sink(), Milter(self.folder + "/milter")
        os.chmod(self.folder + "/milter", 0o666)
        try:
            self.mta = kind(self.folder, self.sink.address[1])
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def play(self):
        try:
            for n, (name, (stages, message)) in enumerate(self.cases):
                self.seen[name] = self.case(n, stages, message)
            wait_for(self.mta.is_idle)
            for n, (name, _) in enumerate(self.cases):
                self.seen[name].update(self.outcome(n))
        except BaseException as e:
            self.failed = e

    def case(self, n, stages, message):
        wait_for(lambda: not self.milter.open)  # the test for the open port, too
        self.milter.play(script_of(stages))
        said = client(self.mta.port, ["<b@example.net>", "<B2@Example.net>", "<k%d@example.net>" % n], message.encode())
        wait_for(lambda: not self.milter.open)
        odd = ["%s %s" % (name, re.sub(r"k\d+@", "k@", r)) for name, r in said if r[:1] not in "23"]
        return {"said": " | ".join(odd), "heard": re.sub(r"(.)\1+", lambda m: m.group(1) + str(len(m.group())), self.milter.heard)}

    def outcome(self, n):
        mark = "k%d@" % n
        mails = [m for m in self.sink.mails if any(mark in r for r in m[1])]
        if mails:
            return delivered(mails[0]) if len(mails) == 1 else {"fields": "delivered %d times" % len(mails)}
        return {"fields": "held" if self.mta.held(mark.encode()) else "nothing"}

    def stop(self):
        self.mta.stop()
        self.milter.stop()
        self.sink.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def play(kind):
    """What is seen of all cases: they are dealt out to some MTAs, which mostly wait."""
    cases, players, seen = list(CASES.items()), [], {}
    try:
        for n in range(kind.at_once):
            players.append(Player(kind, cases[n::kind.at_once]))
        for p in players:
            p.thread.join()
    finally:
        for p in players:
            p.stop()
    for p in players:
        if p.failed:
            raise p.failed
        seen.update(p.seen)
    return lines(seen)


def lines(all_seen):
    """{case: what is told of it}: of what is as in the first case, nothing."""
    first = next(iter(CASES))
    usual = all_seen[first]
    told = {first: "; ".join("%s %s" % item for item in usual.items() if item[1])}
    for name, seen in list(all_seen.items()):
        odd = [key for key in KEYS if key in seen and seen[key] != usual[key] and (key != "heard" or name.split()[0] in ("verdict", "edits"))]
        text = "; ".join("%s %s" % (key, seen[key] or "nothing") for key in odd).replace(usual["fields"], "ORIGINAL")
        told.setdefault(name, text or "as it came")
    return told


def read_table():
    """The words at its top, and {case: {name of an MTA: what is told}}."""
    with open(TABLE) as f:
        rows = f.read().splitlines()
    words = [row for row in rows if row.startswith("#")]
    table = {}
    for row in rows[len(words):]:
        if row.startswith("["):
            table[row[1:row.index("]")]] = told = {}
        else:
            who, text = row.split(None, 1)
            told.update(dict.fromkeys(["postfix", "sendmail"] if who == "both" else [who], text))
    return words, table


def write_table(words, table):
    with open(TABLE, "w") as f:
        f.write("".join(word + "\n" for word in words))
        for name, (stages, _) in CASES.items():
            told = table.get(name, {})
            f.write('[%s] "%s"\n' % (name, stages))
            if len(set(told.values())) == 1 and len(told) == 2:
                told = {"both": told["postfix"]}
            f.write("".join("  %-10s%s\n" % item for item in sorted(told.items())))


@pytest.mark.parametrize("kind", [Postfix, Sendmail])
def test_what_milters_ask_for_is_done_as_the_table_says(kind):
    if kind.lacks():
        pytest.skip("%s: %s" % (kind.name, kind.lacks()))
    seen = play(kind)
    words, table = read_table()
    if os.environ.get("SLUICE_WRITE_TABLE"):
        write_table(words, {name: {**table.get(name, {}), kind.name: seen[name]} for name in CASES})
    assert sorted(table) == sorted(CASES)
    other = {name: (seen[name], table[name][kind.name]) for name in CASES if table[name].get(kind.name) != seen[name]}
    assert other == {}, "%s %s; the table is of Postfix 3.7.11 and Sendmail 8.17.1.9" % (kind.name, kind.version())


def test_what_is_asked_for_in_order_is_one_and_the_same_to_both():
    rows = [told for name, told in read_table()[1].items() if name.startswith("in order ")]
    assert len(rows) > 10
    assert [told for told in rows if told["postfix"] != told["sendmail"]] == []
