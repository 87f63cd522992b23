"""The order of stages, targets and hints."""

import pytest

from flows.graph import Stage, load
from postbc.errors import ConfigError


def test_every_stage_comes_after_what_it_needs(project):
    order = [stage.address for stage in load(project)]
    assert sorted(order) == ["first", "join", "last", "middle@x", "middle@y"]
    assert order[0] == "first"
    assert order[-2:] == ["join", "last"]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["first"], {"first"}),
        (["middle@y"], {"first", "middle@y"}),
        (["middle"], {"first", "middle@x", "middle@y"}),
        (["join"], {"first", "middle@x", "middle@y", "join"}),
    ],
)
def test_targets_bring_what_they_need_and_no_more(project, targets, expected):
    assert {stage.address for stage in load(project, targets)} == expected


def test_hints_come_from_meta(project):
    middle = load(project, ["middle@x"])[-1]
    assert middle == Stage("middle@x", retries=0, timeout=60)


def test_the_users_mistakes_are_named(project, tmp_path):
    with pytest.raises(ConfigError, match=r"no stage 'midle@x'.*Did you mean middle@x"):
        load(project, ["midle@x"])
    with pytest.raises(ConfigError, match=r"no dvc\.yaml"):
        load(tmp_path)
    (project / "dvc.yaml").write_text("stages: 3")
    with pytest.raises(ConfigError, match=r"dvc\.yaml"):
        load(project)


@pytest.mark.parametrize("hints", [{"retry": 1}, {"retries": -1}, {"timeout": "1h"}, {"gate": "anyone"}, [1]])
def test_impossible_hints_are_refused(hints):
    with pytest.raises(ConfigError, match=r"meta\.prefect of s"):
        Stage.from_meta("s", {"prefect": hints})
