"""Pictures and pages of runs: landscapes, curves, rendered rollouts, and one self-contained report."""
