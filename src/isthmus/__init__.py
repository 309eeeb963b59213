"""Isthmus: sim-to-real reinforcement learning, from a source you can simulate to a target you can hardly touch."""

import os

# XLA's results depend on the number of CPUs it sees; only this fixes it, and only before the first computation.
os.environ.setdefault("NPROC", "1")
