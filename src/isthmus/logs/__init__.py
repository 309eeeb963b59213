"""Logs of a target: read, repair, describe, write."""
