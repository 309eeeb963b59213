"""Pictures and pages of runs: landscapes, curves, rendered rollouts, one self-contained report."""
