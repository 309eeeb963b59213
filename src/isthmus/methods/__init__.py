"""Methods: what crosses from a source to a target. One paper, one file."""
