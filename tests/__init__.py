"""The suite: real MongoDB and Valkey, the public doors, exact values."""
