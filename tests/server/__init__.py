"""Of the server: what is the same for every domain."""
