"""The configurations that ship are good as they are, once there is a certificate."""
import os
import shutil
import subprocess

import pytest
from gateway import ROOT, SLUICE, certificate


@pytest.mark.parametrize("name", sorted(n for n in os.listdir(ROOT + "/conf") if n != "demo.lua"))
def test_a_sample_is_good(name, tmp_path):
    folder = certificate()
    shutil.copy(folder + "/cert.pem", tmp_path / "fullchain.pem")
    shutil.copy(folder + "/key.pem", tmp_path / "privkey.pem")
    done = subprocess.run([SLUICE, "check", "-c", "%s/conf/%s" % (ROOT, name)], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, SLUICE_CERTIFICATE=str(tmp_path)))
    assert done.returncode == 0 and done.stderr == "", done.stderr
