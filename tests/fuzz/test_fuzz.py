"""Hostile values for every argument and every member of an input, at both doors, as anybody: nothing breaks and nothing shows.

A share of them is sent each time, from all places; all of them, by hand: `make fuzz`.
"""

import os
import time

import pytest
from graphql import parse, validate

from tests.fuzz.campaign import SCHEMA, Site, ran, spread
from tests.fuzz.doors import DOORS, rss_bytes

# Of each caller at each door.
INPUTS = int(os.environ.get("FUZZ_INPUTS", "300"))
CALLERS = ["owner", "stranger", "anonymous"]
# What a server keeps of what it has seen: documents and plans (68 MiB at most), and what the allocator does not give back.
KEPT_BYTES = 192 * 1024 * 1024
# One server for all, and its memory is its own.
pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("caller", CALLERS)
def test_no_value_breaks_anything(site: Site, caller: str, door: str) -> None:
    attacks = site.attacks(caller)
    had, began, before = site.of_owner(), time.monotonic(), rss_bytes(site.pid)
    chosen = spread(attacks, INPUTS, start=59 * (2 * CALLERS.index(caller) + list(DOORS).index(door)))
    findings = ran(site, caller, door, chosen)
    took, grown = time.monotonic() - began, rss_bytes(site.pid) - before
    print(f"{findings.count} of {len(attacks)} inputs as {caller} by {door}, {took:.0f} s, {grown >> 20} MiB more")
    assert not findings.faults, "\n".join(findings.faults)
    assert findings.count >= INPUTS
    assert rss_bytes(site.pid) - site.rss_bytes < KEPT_BYTES
    if caller != "owner":
        assert site.of_owner() == had


def test_every_place_is_a_place_of_the_schema(site: Site) -> None:
    """A document that does not fit tests nothing but the validation."""
    for place in site.attacks("owner").places:
        document = place.attack("x", "null", is_literal=False).document
        assert validate(SCHEMA, parse(document)) == [], document
