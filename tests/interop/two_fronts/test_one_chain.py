"""One chain, two fronts, one outcome: the same sessions said to a real Postfix with Sluice as its milter and to Sluice before it hear
replies of the same class (where a filter speaks: the same code, enhanced code and text), and what is delivered or held is the same octet
for octet, trace fields apart (fronts.py). What differs is a row of docs/milter.md, and nothing else."""
import collections
import os
import shutil

import pytest
from chains import CHAINS, sessions
from fronts import House, outcomes
from rows import ELSEWHERE, MAILS, REPLIES, documented, own_marked

FEWEST = 1000  # messages that were taken and delivered in both fronts


def is_one(a, b):
    """Whether two replies to the same command are the same."""
    if "SAID" in a.text or "SAID" in b.text:
        return a[1:] == b[1:]
    return a.code // 100 == b.code // 100 and (a.code < 400 or a.enhanced[:1] == b.enhanced[:1])


def other_reply(as_milter, as_proxy):
    """(index, row, what): where they part; row: why they may."""
    for i, (a, b) in enumerate(zip(as_milter, as_proxy)):
        if not is_one(a, b):
            rows = [subject for subject, holds in REPLIES.items() if holds(a, b, as_proxy[i - 1])]
            return i, rows[0] if rows else None, "to %r: as a milter %r, as a proxy %r" % (a.to, a[1:], b[1:])
    if len(as_milter) != len(as_proxy):
        return len(as_milter), None, "replies: %d and %d" % (len(as_milter), len(as_proxy))
    return None, None, None


def rows_of(one, other, sent):
    """The rows without which two mails are not the same; None: they are two."""
    def same(rows):
        a, b = one, other
        for subject in rows:
            a, b = MAILS[subject](a, sent), MAILS[subject](b, sent)
        return a == b
    needed = list(MAILS)
    if not same(needed):
        return None
    for subject in MAILS:
        rest = [r for r in needed if r != subject]
        if same(rest):
            needed = rest
    return needed


class Comparison:
    def __init__(self, seen):
        self.said, self.heard, self.found, self.held = seen
        self.wrong, self.rows, self.delivered = [], collections.Counter(), collections.Counter()

    def session(self, chain, name):
        as_milter, as_proxy = self.heard[chain][name]
        at, row, what = other_reply(as_milter, as_proxy)
        if row:
            self.rows[row] += 1
        elif what:
            return self.wrong.append("%s, %s: %s" % (chain, name, what))
        one, other = outcomes(as_milter[:at], self.found, self.held, False), outcomes(as_proxy[:at], self.found, self.held, True)
        contents = [step[1] for step in self.said[chain][name] if step[0] in ("data", "raw")]
        for sent, a, b in zip(contents * len(one), one, other):
            self.outcome(chain, name, sent, a, b)

    def outcome(self, chain, name, sent, one, other):
        (held, mails), (other_held, other_mails) = [(h, [own_marked(m) for m in ms]) for h, ms in (one, other)]
        what = None
        if held != other_held or len(mails) != len(other_mails):
            what = "held, and how many: %s, %d; %s, %d" % (held, len(mails), other_held, len(other_mails))
        for a, b in zip(mails, other_mails):
            rows = rows_of(a, b, sent)
            if rows is None:
                what = "as a milter %r\nas a proxy  %r" % first_lines(a, b)
            else:
                self.rows.update(rows)
                self.delivered[chain] += 1
        if what:
            self.wrong.append("%s, %s: %s" % (chain, name, what))


def first_lines(one, other):
    """Where two mails part: some of their lines."""
    if one[:2] != other[:2]:
        return one[:2], other[:2]
    a, b = one[2].split(b"\n"), other[2].split(b"\n")
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return [x[:100] for x in a[at:at + 3]], [x[:100] for x in b[at:at + 3]]


@pytest.fixture(scope="module")
def compared():
    if os.geteuid() != 0 or not shutil.which("postfix"):
        pytest.skip("needs root and Postfix")
    house, said = House(), sessions()
    try:
        heard = {chain: house.play(chain, said[chain]) for chain in CHAINS}
        found, held = house.deliveries()
    finally:
        house.stop()
    c = Comparison((said, heard, found, held))
    for chain in CHAINS:
        for name in said[chain]:
            c.session(chain, name)
    return c


def test_nothing_differs_but_what_is_documented(compared):
    assert not compared.wrong, "%d of them\n%s" % (len(compared.wrong), "\n".join(compared.wrong[:40]))


def test_each_exception_is_a_row_that_some_message_needs(compared):
    assert {r for r, n in compared.rows.items() if n} == set(REPLIES) | set(MAILS)
    assert sorted(documented()) == sorted(set(REPLIES) | set(MAILS) | set(ELSEWHERE))


def test_the_messages_were_delivered(compared):
    assert sum(compared.delivered.values()) >= FEWEST and min(compared.delivered[chain] for chain in CHAINS) >= 15, compared.delivered
