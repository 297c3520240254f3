"""What operations cost and what a caller may still spend."""
