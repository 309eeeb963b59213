"""Off-dynamics: ODRL's shifts by its protocol, scored between a floor and a ceiling."""
