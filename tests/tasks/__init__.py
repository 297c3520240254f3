"""Tasks, through the public door."""
