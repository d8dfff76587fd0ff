"""docs/troubleshooting.md has every refusal, every end of a session, and every warning and error of the log, in the words of the source."""
import glob
import os
import re

import pytest

from gateway import ROOT

# What the page does not name, by the words of the source, and why.
UNNAMED = {
    "%.*s%s: %.*s": "mistakes of a configuration: each has its file, line and what was expected",
    "%s: %s": "a file and what the system says of it: the pid file",
    "%s": "why workers did not start; the sentence is the listener's or the system's",
}

OF_THE_SYSTEM = {"bind: Permission denied"}  # what the page names and strerror says


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def section(title):
    return re.search(r"^## %s\n(.*?)(?=^## |\Z)" % re.escape(title), read("docs/troubleshooting.md"), re.M | re.S).group(1)


def entries(text):
    """What stands in backticks in the first column; and, of a row about backends, behind its colon."""
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return [e for row in rows for e in re.findall(r"`([^`]+)`", row[1] if "Behind it:" not in row[2] else "".join(row[1:3]))]


def is_named(sentence, names):
    """The fixed parts of an entry, in order, within a sentence of the source."""
    return any(re.search(".*?".join(re.escape(p) for p in name.split("...")), sentence, re.S) for name in names)


def literals(text):
    """The strings of C in `text`, those that stand side by side as one; escapes resolved, conversions as an octet that no entry has."""
    for run in re.findall(r'"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*', text):
        yield "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', run)).replace('\\"', '"').replace("\\n", "\n")


def arguments(text, at):
    """Those of the call whose opening parenthesis is at text[at], as they stand."""
    depth, parts, begin, i = 0, [], at + 1, at
    while True:
        if text[i] == '"':
            i += 1
            while text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        elif text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
        if depth == 1 and text[i] == "," or depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
        if depth == 0:
            return parts
        i += 1


def said(pattern, which):
    """(file, sentence) of each literal in argument `which` of the calls that `pattern` finds; no literal: none."""
    for path in sorted(glob.glob(ROOT + "/proxy/**/*.c", recursive=True)):
        text = read(path)
        for call in re.finditer(r"\b%s\(" % pattern, text):
            words = arguments(text, call.end() - 1)
            for sentence in literals(which(words)):
                yield os.path.relpath(path, ROOT), sentence


def log_lines():
    level = re.compile("LOG_(WARNING|ERROR)")
    yield from said("log_say", lambda words: words[1] if level.search(words[0]) else "")
    yield from said("log_rare", lambda words: words[2] if level.search(words[0]) else "")


def failures_of_backends():
    yield from said("backend_break", lambda words: words[-1])
    yield from said("refuse", lambda words: words[-1] if words[0] == "b" else "")


REPLIES = [(name, "%s %s %s" % (code, enhanced, text.replace("%s", "XXX"))) for name, code, enhanced, text in
           re.findall(r'^REPLY\((\w+), ([45]\d\d), "([^"]*)", "(.*)"\)$', read("proxy/wire/replies.def"), re.M)]
CLOSES = [phrase for phrase in re.findall(r'^CLOSE\(\w+, "(.*)"\)$', read("proxy/smtp/front/closes.def"), re.M) if phrase != "open"]
LINES = sorted(set(log_lines()))
FAILURES = sorted(set(failures_of_backends()))


@pytest.mark.parametrize("name,reply", REPLIES)
def test_each_refusal_has_an_entry(name, reply):
    names = entries(section("By reply"))
    assert any(re.fullmatch(".*".join(re.escape(p) for p in e.split("...")), reply) for e in names), reply


def test_each_end_of_a_session_has_an_entry():
    missing = set(CLOSES) - set(entries(section("By `why` of a `conn` line")))
    assert len(CLOSES) > 15 and not missing


def test_each_warning_and_error_of_the_log_has_an_entry():
    names = entries(section("By line of the log"))
    assert len(LINES) > 40
    missing = [line for line in LINES if line[1] not in UNNAMED and not is_named(line[1], names)]
    assert not missing, missing
    needless = [text for text in UNNAMED if text not in [sentence for _, sentence in LINES]]
    assert not needless, needless


def test_each_failure_of_a_backend_has_an_entry():
    names = entries(section("By line of the log"))
    assert len(FAILURES) > 20
    missing = [line for line in FAILURES if not is_named(line[1], [n for n in names if not n.startswith("...")])]
    assert not missing, missing


def test_each_key_of_the_log_is_in_its_page():
    rows = [line.split("|")[1] for line in read("docs/log.md").splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", "".join(rows)))
    said_keys = set()
    for path in glob.glob(ROOT + "/proxy/**/*.c", recursive=True) + glob.glob(ROOT + "/filters/**/*.c", recursive=True):
        said_keys |= set(re.findall(r'\blog_(?:text|number|seconds|list|angle|pieces)\("(\w+)"', read(path)))
    assert len(said_keys) > 40 and said_keys <= named, said_keys - named
    no_keys = {"msg", "rcpt", "conn", "auth", "observe", "script", "log"}  # events
    assert named - said_keys - no_keys == {"ts", "level", "event"}  # put by log_begin


def test_no_entry_has_words_that_nobody_says():
    ours = [reply for _, reply in REPLIES]
    filters = "".join(read(p) for p in glob.glob(ROOT + "/scripts/filters/*.lua") + glob.glob(ROOT + "/filters/**/*.c", recursive=True))
    for entry in entries(section("By reply")):
        pieces = ".*".join(re.escape(p) for p in entry.split("..."))
        assert any(re.fullmatch(pieces, reply) for reply in ours) or re.search(pieces, filters), entry
    source = []
    for path in glob.glob(ROOT + "/proxy/**/*.[ch]", recursive=True):
        source += literals(read(path))
    for entry in set(entries(section("By line of the log"))) - OF_THE_SYSTEM:
        assert any(is_named(sentence, [entry]) for sentence in source), entry
    assert set(entries(section("By `why` of a `conn` line"))) <= set(CLOSES)
