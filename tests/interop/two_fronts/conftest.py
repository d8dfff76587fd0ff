import os
import sys

INTEROP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(INTEROP, name) for name in ("milter", "postfix")]
