"""Identification: how honest a fit's intervals are, and what a policy gains by a fit."""
