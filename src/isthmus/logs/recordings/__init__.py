"""Logs as they come off robots: messages with stamps, made into a log by a map."""
