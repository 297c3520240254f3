"""What a flood of values that are asked for once may push out, and what not."""

from hypothesis import given
from hypothesis import strategies as st

from taskgraph.server.two_part_cache import TwoPartCache

Steps = list[tuple[str, int, int]]


def filled(*keys: str, capacity: int = 100, weight: int = 10) -> TwoPartCache[str, str]:
    """Each key was kept and asked for again; its value is its capital."""
    cache = TwoPartCache[str, str](capacity)
    for key in keys:
        cache.keep(key, key.upper(), weight)
        assert cache.get(key) == key.upper()
    return cache


def flood(cache: TwoPartCache[str, str], count: int) -> None:
    for number in range(count):
        assert cache.get(f"once {number}") is None
        cache.keep(f"once {number}", "", 10)


def test_what_is_asked_for_again_survives_any_flood() -> None:
    cache = filled("a", "b")
    flood(cache, 1000)
    assert (cache.get("a"), cache.get("b")) == ("A", "B")


def test_what_was_asked_for_once_is_gone_when_its_part_is_full() -> None:
    cache = TwoPartCache[str, str](100)
    cache.keep("a", "A", 10)
    flood(cache, 2)
    assert cache.get("a") is None


def test_in_the_protected_part_the_one_unused_for_longest_makes_room() -> None:
    cache = filled("a", "b", "c", "d", "e", "f", "g", "h")
    assert cache.get("a") == "A"
    for key in ("i", "j", "k"):
        cache.keep(key, key.upper(), 10)
        cache.get(key)
    assert [key for key in "abcdefghijk" if cache.get(key) is None] == ["b"]


def test_what_is_heavier_than_probation_is_not_kept() -> None:
    cache = filled("a")
    cache.keep("giant", "GIANT", 21)
    assert cache.get("giant") is None
    assert cache.get("a") == "A"


def test_what_grows_pushes_out_others_or_leaves_when_it_is_a_giant() -> None:
    cache = filled("a", "b", "c", "d", "e", "f", "g", "h")
    value = cache.get("h")
    assert value is not None
    cache.reweigh("h", value, 20)
    assert (cache.weight, len(cache)) == (90, 8)
    cache.reweigh("h", value, 21)
    assert (cache.weight, len(cache)) == (70, 7)
    assert cache.get("h") is None


def test_what_is_not_kept_has_no_weight() -> None:
    cache = filled("a")
    cache.reweigh("unknown", "A", 15)
    cache.reweigh("a", "another", 15)
    assert (cache.weight, len(cache)) == (10, 1)


@given(st.lists(st.tuples(st.sampled_from(["ask", "reweigh"]), st.integers(0, 30), st.integers(0, 40))))
def test_it_never_weighs_more_than_it_may_or_less_than_it_holds(steps: Steps) -> None:
    cache = TwoPartCache[int, int](100)
    weights: dict[int, int] = {}
    for step, key, weight in steps:
        if step == "reweigh" and cache.get(key) is not None:
            cache.reweigh(key, key, weight)
            weights[key] = weight
        elif cache.get(key) is None:
            cache.keep(key, key, weight)
            weights[key] = weight
        assert cache.weight <= 100
    # Asking moves, so each part may lose something on the way; what is still there is what is counted.
    kept = [*cache._probation.entries, *cache._protected.entries]
    assert cache.weight == sum(weights[key] for key in kept)
    assert len(kept) == len(set(kept)) == len(cache)
