"""The manual of the configuration is the table of directives: every row, every value of an enumeration, and no stale page in the tree."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from gateway import ROOT, SLUICE


def ask(*words):
    return subprocess.run([SLUICE, "check", "--defaults", *words], capture_output=True, text=True, check=True).stdout


def page():
    with open(os.path.join(ROOT, "contrib/man/sluice-config.5")) as f:
        return f.read()


def test_the_page_in_the_tree_is_that_of_this_binary():
    made = subprocess.run([sys.executable, os.path.join(ROOT, "contrib/man/sluice-config.py")], input=ask("--json"), capture_output=True,
                          text=True, check=True).stdout
    assert made == page(), "sluice check --defaults --json | contrib/man/sluice-config.py > contrib/man/sluice-config.5"


def test_no_row_is_lost_and_each_value_is_named():
    plain = page().replace("\\(dq", '"').replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
    sections = {name.upper(): text for name, text in re.findall(r"^\.SH (.*)\n((?:(?!\.SH ).*\n)*)", plain + "\n", re.M)}
    directives = json.loads(ask("--json"))
    assert len(directives) > 120 and sum(bool(d["values"]) for d in directives) > 10
    for d in directives:
        rows = dict(re.findall(r"^\.TP\n\.B (.*)\n(.*)$", sections[d["where"].rstrip(":").upper()], re.M))
        row = rows[d["name"]]
        for value in d["values"]:
            assert '"%s"' % value in row, (d, row)
        if d["default"]:
            assert row.endswith("Default: %s." % d["default"]), (d, row)


def test_the_list_for_people_names_them_too():
    text = ask()
    for d in json.loads(ask("--json")):
        line = next(l for l in text.splitlines() if l.split() and l.strip().startswith(d["name"]) and d["doc"] in l)
        assert all('"%s"' % v in line for v in d["values"]), line


@pytest.mark.parametrize("name,what,source", [("sluice-lua.7", "scripts for sluice(8) in Lua", "scripts/README.md"),
                                              ("sluice-filters.5", "filters for sluice(8), built in and in C", "filters/README.md")])
def test_pages_of_reference_are_those_of_the_tree(name, what, source):
    page, section = name.split(".")
    with open(os.path.join(ROOT, source)) as f:
        made = subprocess.run([sys.executable, os.path.join(ROOT, "contrib/man/from_markdown.py"), page, section, what], stdin=f, text=True,
                              capture_output=True, check=True).stdout
    with open(os.path.join(ROOT, "contrib/man", name)) as f:
        assert made == f.read(), "contrib/man/from_markdown.py %s %s %r < %s > contrib/man/%s" % (page, section, what, source, name)


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc")
def test_the_pages_are_well_formed():
    pages = [os.path.join(ROOT, "contrib/man", n) for n in os.listdir(os.path.join(ROOT, "contrib/man")) if n[-1].isdigit()]
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True)
    assert len(pages) == 4 and done.stdout + done.stderr == "", done.stdout + done.stderr
