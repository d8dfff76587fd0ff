"""Real peers in folders of their own, on loopback, ended by their own pid."""
import os
import re
import shutil
import subprocess
import tempfile
import time

from gateway import ROOT, free_port

PRIVATE = os.path.join(ROOT, "contrib", "postfix", "private.sh")


class Postfix:
    def __init__(self, transport="", more=""):
        self.folder = tempfile.mkdtemp(prefix="sluice-postfix-")
        os.chmod(self.folder, 0o755)
        self.port = free_port()
        subprocess.run([PRIVATE, "start", self.folder, str(self.port), transport], check=True, timeout=60,
                       env=dict(os.environ, PRIVATE_POSTFIX_CF=more))

    def log(self):
        with open(self.folder + "/log", errors="replace") as f:
            return f.read()

    def wait_log(self, pattern, count=1, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(re.findall(pattern, self.log())) >= count:
                return True
            time.sleep(0.1)
        return False

    def mail(self):
        found = []
        for folder, _, names in os.walk(self.folder + "/mail"):
            if folder.endswith("/new"):
                found += [os.path.join(folder, n) for n in names]
        return found

    def stop(self):
        subprocess.run([PRIVATE, "stop", self.folder], timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
