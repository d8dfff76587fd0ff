import os
import sys

for room in ("dialog", "lua", "module"):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), room))
