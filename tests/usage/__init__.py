"""Prices and limits as the API shows them, through the public door."""
