# SPDX-License-Identifier: Apache-2.0
"""Every cell is warmed up first, called as often as it should be, and has the same mean place as all others."""

from collections import Counter
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from suite.plan.visits import mirrored_visits, single_visits


@given(cells=st.integers(1, 12), pairs=st.integers(1, 3), warm_up=st.integers(1, 4))
def test_the_mean_place_of_every_cell_is_the_same(cells, pairs, warm_up):
    visits = mirrored_visits([2 * pairs] * cells, warm_up)
    places: dict[int, list[int]] = {}
    for place, visit in enumerate(visits):
        if visit.timed:
            places.setdefault(visit.position, []).append(place)
    assert len({mean(of_cell) for of_cell in places.values()}) == 1


@given(calls=st.lists(st.integers(1, 4), max_size=8), warm_up=st.integers(1, 3))
def test_untimed_passes_come_first_and_each_cell_has_its_calls_and_one_end(calls, warm_up):
    visits = mirrored_visits(calls, warm_up)
    timed = [visit.timed for visit in visits]
    assert timed == sorted(timed)
    assert Counter(visit.position for visit in visits if visit.timed) == Counter(dict(enumerate(calls)))
    assert Counter(visit.position for visit in visits if not visit.timed) == Counter(
        dict.fromkeys(range(len(calls)), warm_up)
    )
    assert sorted(visit.position for visit in visits if visit.last) == list(range(len(calls)))
    ended = set()
    for visit in visits:
        assert visit.position not in ended
        ended |= {visit.position} if visit.last else set()
    assert [visit.number for visit in visits] == sorted(visit.number for visit in visits)


def test_a_comparison_stays_at_each_cell_once():
    assert [(v.position, v.warm_up, v.timed, v.last) for v in single_visits([2, 4])] == [
        (0, True, 2, True),
        (1, True, 4, True),
    ]
