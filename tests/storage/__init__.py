"""Tests of taskgraph.storage."""
