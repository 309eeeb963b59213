"""Problems: a source, a target, and what may be taken from the target."""
