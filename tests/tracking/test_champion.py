"""The rule that picks a champion."""

from hypothesis import given
from hypothesis import strategies as st

from postbc.tracking.champion import Standing, champion

standings = st.lists(
    st.builds(
        Standing,
        st.integers(1, 50),
        st.dictionaries(st.sampled_from(["robot", "simulator"]), st.floats(0, 1)),
        st.integers(0, 10_000),
    ),
    unique_by=lambda s: s.version,
)


def test_the_robot_decides_when_every_version_was_there():
    assert champion([Standing(1, {"robot": 0.2, "simulator": 0.9}, 0), Standing(2, {"robot": 0.3}, 5)]) == 2


def test_the_simulator_decides_when_one_version_never_met_the_robot():
    assert champion([Standing(1, {"simulator": 0.9}, 0), Standing(2, {"robot": 1.0, "simulator": 0.3}, 5)]) == 1


def test_a_tie_goes_to_fewer_steps_then_to_the_newer():
    assert champion([Standing(1, {"simulator": 0.5}, 0), Standing(2, {"simulator": 0.5}, 9)]) == 1
    assert champion([Standing(1, {"simulator": 0.5}, 9), Standing(2, {"simulator": 0.5}, 9)]) == 2


def test_nobody_leads_without_results():
    assert champion([]) is None
    assert champion([Standing(1, {}, 0)]) is None


@given(standings, st.randoms())
def test_the_order_of_the_versions_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    assert champion(found) == champion(shuffled)
