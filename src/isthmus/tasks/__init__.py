"""Tasks: what robots observe, what they are paid for, when they have fallen."""
