"""The units in contrib/systemd as systemd itself judges them."""
import os
import re
import shutil
import subprocess

import pytest
from gateway import ROOT, SLUICE

FOLDER = os.path.join(ROOT, "contrib", "systemd")
pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


@pytest.fixture
def units(tmp_path):
    for name in ("sluice.service", "sluice.socket"):
        with open(os.path.join(FOLDER, name)) as f:
            text = f.read().replace("/usr/sbin/sluice", SLUICE)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_units_are_well_formed(units):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(units / "sluice.service"), str(units / "sluice.socket")],
                          capture_output=True, text=True)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "sluice" in line]
    assert done.returncode == 0 and ours == [], done.stdout + done.stderr


def test_the_service_is_exposed_to_little(units):
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", str(units / "sluice.service")], capture_output=True, text=True)
    level = re.search(r"Overall exposure level for sluice.service: ([0-9.]+)", done.stdout)
    assert level and float(level.group(1)) <= 2.0, done.stdout + done.stderr
    print(level.group(0))
