"""Studies: one paper, one file; a table of units as data, and the analysis of what they wrote."""
