"""What differs between the simulator of a recording and the installed one is named."""

import copy
import json

import pytest

from postbc.demos.provenance import differences, other_simulator
from postbc.sims import get_task


@pytest.fixture(scope="module")
def recorded() -> dict:
    return get_task("lift").describe({"placement": 0.1})


def test_the_same_simulator_does_not_differ_wherever_the_object_started(recorded: dict):
    assert other_simulator(json.dumps(recorded), get_task("lift").describe({"placement": 0.05})) == ""


def test_what_nobody_wrote_down_does_not_differ(recorded: dict):
    assert other_simulator("{}", recorded) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda args: args.update(env_version="1.4.1"), "env_version was '1.4.1', is '1.5.1'"),
        (lambda args: args["versions"].update(mujoco="2.3.2"), "versions/mujoco was '2.3.2'"),
        (lambda args: args.update(env_name="PickPlaceCan"), "env_name was 'PickPlaceCan', is 'Lift'"),
        (lambda args: args["env_kwargs"].update(control_freq=10), "env_kwargs/control_freq was 10, is 20"),
        (
            lambda args: args["env_kwargs"]["controller_configs"]["body_parts"]["right"].update(kp=300),
            "env_kwargs/controller_configs/body_parts/right/kp was 300, is 150",
        ),
    ],
)
def test_another_one_is_named(recorded: dict, change, message: str):
    other = copy.deepcopy(recorded)
    change(other)
    assert message in other_simulator(json.dumps(other), recorded)
    assert len(differences(other, recorded)) == 1


@pytest.mark.parametrize("words", ["{", "[1]", "null", "", "[" * 100_000])
def test_a_description_that_is_none_is_named(recorded: dict, words: str):
    assert other_simulator(words, recorded).startswith("env_args is")
