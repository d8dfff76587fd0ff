"""The configurations that ship are good as they are, once there is a certificate."""
import os
import shutil
import subprocess
import tempfile

import pytest
from gateway import ROOT, SLUICE, certificate, without_root


@pytest.mark.parametrize("name", sorted(n for n in os.listdir(ROOT + "/conf") if n != "demo.lua"))
def test_a_sample_is_good(name):
    folder, path = certificate(), tempfile.mkdtemp(prefix="sluice-sample-")
    os.chmod(path, 0o755)  # whoever `user` names reads it
    shutil.copyfile(folder + "/cert.pem", path + "/fullchain.pem")
    shutil.copyfile(folder + "/key.pem", path + "/privkey.pem")
    done = subprocess.run([SLUICE, "check", "-c", "%s/conf/%s" % (ROOT, name)], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, SLUICE_CERTIFICATE=path))
    shutil.rmtree(path)
    # Below a private home `user` reads nothing of this tree, and is told so.
    said = [line for line in without_root(done.stderr).splitlines() if "cannot read it again: " not in line or ROOT not in line.split("again: ")[1]]
    assert done.returncode == 0 and not said, done.stderr
