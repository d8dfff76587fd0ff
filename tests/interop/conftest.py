import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "dialog"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
