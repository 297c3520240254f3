"""Kills, stops and restarts what taskgraph runs on, and checks that nothing was lost; see README.md here."""
