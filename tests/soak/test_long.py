"""The soak that users run for half an hour (long.py), for a moment: mixed load, reloads, nothing lost."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def test_mixed_load_with_reloads_loses_nothing():
    done = subprocess.run([sys.executable, os.path.join(HERE, "long.py"), "--minutes", "0.35", "--reload", "2", "--margin", "50"],
                          capture_output=True, text=True, timeout=400)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
