"""The papers' studies: trials as data, claims, measures."""
