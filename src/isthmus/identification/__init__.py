"""Parameters from a log: fitted, with intervals, and what the log cannot tell."""
