"""Who you are: users, passwords, sessions and tokens."""
