"""Learners: what turns transitions into a better policy. They know arrays only."""
