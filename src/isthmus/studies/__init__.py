"""The engine of studies: a table of trials as data, what they wrote, and the claims it decides."""
