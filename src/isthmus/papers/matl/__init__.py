"""One paper's study."""
