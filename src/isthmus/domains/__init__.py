"""Worlds: recipes for them, their simulations and effects, and policies that act in them."""
