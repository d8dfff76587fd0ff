"""Sessions by the dice: seed N is always the same session (talk.py). Mostly right, here and there odd, in all that clients vary."""
import random

from sessions import CONTENTS, HEAD, PATHS
from talk import TLS, bdat, data, group

ATOMS = ["a", "B", "do..como", ".x", "x.", "user+tag", '"q q"', '"q"', "1", "m\xc3\xbc", "x_y", "a.b.c", "=", "o'brien", "a" * 60, '"a\\"b"', "a:b"]
DOMAINS = ["example.org", "Example.NET", "example.org.", "[192.0.2.7]", "[IPv6:2001:DB8::7]", "a-b.example", "x_y.example", "xn--mller-kva.example"]
NAMES = ["x.example.org", "[192.0.2.1]", "two words", "x_y", "<x>", "m\xc3\xbc", "localhost", "x;y", "(x)"]
MAIL_WORDS = ["SIZE=1000", "size=0", "BODY=8BITMIME", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "RET=hdrs", "ENVID=a+3db", "ENVID=a=b", "ENVID=QQ+2B",
              "AUTH=<>", "AUTH=a@example.org", "FOO", "SIZE=x", "RET=x"]
RCPT_WORDS = ["NOTIFY=NEVER", "NOTIFY=FAILURE,DELAY", "NOTIFY=FAILURE,", "NOTIFY=x", "ORCPT=rfc822;b@example.net", "ORCPT=rfc822;b+2bx@example.net",
              "ORCPT=rfc822;a=b", "ORCPT=x", "FOO=1"]
NOISE = ["NOOP", "NOOP x", "noop", "RSET x", "VRFY b@example.net", "FOO", "", "EXPN x", "DATA x", "MAIL", "RCPT TO:", "\tNOOP ", "HELO", "EHLO"]


class Dice(random.Random):
    def chance(self, percent):
        return self.randrange(100) < percent

    def path(self):
        if self.chance(10):
            return self.choice(PATHS)
        local, domain = self.choice(ATOMS), self.choice(DOMAINS)
        blank = self.choice(["", "", "", "", " ", "\t"])
        path = local + blank + "@" + domain if self.chance(90) else self.choice(["root", "Postmaster", "b"])
        if self.chance(5) and "@" in path:
            path = "@r.example,@s.example:" + path
        if self.chance(85):
            return self.choice(["", "", " ", "\t"]) + "<" + blank + path + ">"
        return path if " " not in blank and "\t" not in blank else path.replace(blank, "")

    def words(self, words):
        return "".join(self.choice([" ", " ", "  ", "\t"]) + w for w in self.sample(words, self.choice([0, 0, 1, 1, 2, 3])))

    def case(self, word):
        return self.choice([word, word, word.lower(), word.capitalize()])

    def mail(self):
        return "%s %s:%s%s" % (self.case("MAIL"), self.case("FROM"), "<>" if self.chance(5) else self.path(), self.words(MAIL_WORDS))

    def rcpt(self):
        path = "<unknown@example.net>" if self.chance(10) else self.path()
        return "%s %s:%s%s" % (self.case("RCPT"), self.case("TO"), path, self.words(RCPT_WORDS))

    def field(self):
        name = self.choice(["X-A", "To", "Cc", "Subject", "x-lower", "Received", "Content-Type", "X A", "Sender", "Reply-To", ""])
        value = self.choice([" x", "x", "", " a@example.org", " A <a@example.org>,\r\n b", "\tx ", " \xc3\xa9", " \xff", " =?utf-8?q?x?=", " " + "x" * 1200, "\r\n folded",
                             " \"A, B\" <a@example.org>", " all:;", " a@example.org (A)"])
        return (name + self.choice([":", ":", ":", " :"]) + value + "\r\n").encode("latin-1")

    def body(self):
        lines = [self.choice([b"", b"x", b"..", b"..x", b"From x", b"\xe9", b"\xc3\xa9", b" ", b"\tx ", b"y" * 1500, b"x:y", b"--b"]) for _ in range(self.randrange(20))]
        return b"".join(line + b"\r\n" for line in lines)

    def content(self):
        if self.chance(30):
            return self.choice(list(CONTENTS.values()))
        fields = [self.field() for _ in range(self.randrange(6))]
        if self.chance(80):
            fields += [line + b"\r\n" for line in HEAD.split(b"\r\n")[:-1]]
        self.shuffle(fields)
        return b"".join(fields) + b"\r\n" + self.body()

    def end(self):
        if self.chance(75):
            return [data(self.content())]
        content = self.content()
        parts = sorted(self.randrange(len(content) + 1) for _ in range(self.randrange(3))) if content else []
        cuts = [0] + parts + [len(content)]
        pieces = [content[i:k] for i, k in zip(cuts, cuts[1:])]
        return [bdat(p, False) for p in pieces[:-1] if p] + [bdat(pieces[-1])]

    def transaction(self):
        envelope = [self.mail()] + [self.rcpt() for _ in range(self.choice([1, 1, 1, 2, 3]))]
        if self.chance(10):
            envelope.insert(self.randrange(len(envelope) + 1), self.choice(NOISE))
        if self.chance(3):
            envelope.insert(self.randrange(len(envelope) + 1), "RSET")
        if self.chance(40):
            envelope = [group(*envelope)]
        return envelope + self.end()

    def session(self):
        steps = []
        if self.chance(95):
            steps.append(self.choice(["EHLO ", "EHLO ", "EHLO ", "ehlo ", "HELO "]) + self.choice(NAMES))
        if self.chance(10):
            steps += [TLS] + steps[:1]
        for _ in range(self.choice([1, 1, 1, 2])):
            if self.chance(10):
                steps.append(self.choice(NOISE))
            steps += self.transaction()
        return steps


def session(seed):
    return Dice(seed).session()
