"""MATL: a robot and a simulated agent that learn together, each aligned with the other."""
