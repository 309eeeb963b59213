"""Robots in URDF: what a file says, what MuJoCo keeps of it, and an MJCF to go on from."""
