"""Policies that come from elsewhere, and policies that leave."""
