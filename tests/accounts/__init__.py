"""Tests of taskgraph.accounts."""
