"""The step function of a place, beside one number an instant."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.activation.timeline import Timeline

END = 40
INTERVALS = st.tuples(st.integers(0, END - 1), st.integers(1, END)).map(lambda two: (two[0], min(sum(two), END)))
ADDED = st.lists(st.tuples(INTERVALS, st.integers(1, 9)), max_size=30)


def slow(added: list[tuple[tuple[int, int], int]]) -> Counter[int]:
    """Level at each instant."""
    levels: Counter[int] = Counter()
    for (start, end), power in added:
        for instant in range(start, end):
            levels[instant] += power
    return levels


def timeline_of(added: list[tuple[tuple[int, int], int]]) -> Timeline:
    timeline = Timeline()
    for (start, end), power in added:
        timeline.add(start, end, power)
    return timeline


@given(ADDED, INTERVALS, st.integers(0, 20))
def test_peaks_and_runs_are_those_of_every_instant(
    added: list[tuple[tuple[int, int], int]], asked: tuple[int, int], limit: int
) -> None:
    levels, timeline = slow(added), timeline_of(added)
    start, end = asked
    assert timeline.peak_w(start, end) == max(levels[instant] for instant in range(start, end))
    runs = timeline.runs_above(start, end, limit)
    covered = [instant for first, last, _ in runs for instant in range(first, last)]
    assert covered == [instant for instant in range(start, end) if levels[instant] > limit]
    for first, last, peak in runs:
        assert peak == max(levels[instant] for instant in range(first, last))
        assert not any(levels[instant] > limit for instant in (first - 1, last) if start <= instant < end)


@given(ADDED, st.randoms(use_true_random=False))
def test_what_is_taken_back_leaves_no_instant_behind(added: list[tuple[tuple[int, int], int]], random: object) -> None:
    timeline = timeline_of(added)
    left = list(added)
    random.shuffle(left)  # type: ignore[attr-defined]
    while left:
        (start, end), power = left.pop()
        timeline.add(start, end, -power)
        levels = slow(left)
        changes = [k for k in range(END + 1) if levels[k] != levels[k - 1]]
        assert timeline.steps() == [(k, levels[k]) for k in changes]
    assert timeline.steps() == []
