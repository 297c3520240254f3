"""Hostile inputs for every argument of every field, and what must hold after each of them."""
