"""Measures taskgraph beside the servers that one could take instead; see README.md here."""
