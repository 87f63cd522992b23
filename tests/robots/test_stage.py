"""The stage as it really starts, three processes on the wall's clock, killed, interrupted and gone on with."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from postbc.compose import load_config
from postbc.config import Config, IngestConfig, TaskConfig
from postbc.demos.store import listed_segments, read_store
from postbc.errors import ConfigError, MismatchError, TrainingDivergedError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import env_steps, save_finetuned
from postbc.finetune.replay import refuse_mixed_rewards
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.folder import load_policy
from postbc.policies.generative import PolicyShape
from postbc.robots.recorder import read_journal
from postbc.sims import get_task

ROOT = Path(__file__).parents[2]
STARTED = []  # stages
# The heartbeat is long: what is tested here does not wait for it, and a busy machine may keep a control loop for a second.
PARAMS = """
task: reach
size: default
finetune_sim: {hidden: 16, layers: 1}
finetune_robot:
  robot: {options: {motor_log: motors}, clock: wall, lead: 1, guard: {low: [-1, -1], high: [1, 1], heartbeat: 10.0}}
  finetune: {env_steps: 80, hidden: 16, layers: 1, batch: 8, updates_per_chunk: 1, checkpoint_every: 10}
"""
REACH = """# @package _global_
task: {name: reach, env: reach, fps: 20, max_steps: 20, chunk: 4}
ingest: {source: none}
posterior: {}
pretrain: {}
finetune_sim: {}
finetune_robot: {}
evaluate: {}
register: {}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """What the stage needs of a project whose other stages have run."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "task" / "reach.yaml").write_text(REACH)
    monkeypatch.chdir(tmp_path)
    finetuned_with(PARAMS)
    yield tmp_path
    while STARTED:
        with STARTED.pop() as stage:
            stage.kill()


def finetuned_with(params, seed=0):
    """The artifact of finetune_sim under ``params``, after 40 steps."""
    Path("params.yaml").write_text(params)
    config = load_config()
    torch.manual_seed(seed)
    model = DiffusionPolicy(PolicyShape(get_task("reach").make().shape, 2, config.task.chunk, 16, 1, 10, 2)).eval()
    save_finetuned(build_learner(model, config.finetune_robot.finetune, 0), 40, Path("artifacts/finetuned_sim/bc"))


def start():
    command = [sys.executable, "-m", "stages.finetune_robot", "--method", "bc"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    STARTED.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    return STARTED[-1]


def log():
    path = Path("motors")
    return [json.loads(line)[1] for line in path.read_text().splitlines()] if path.exists() else []


def commands():
    return [what for what in log() if not isinstance(what, str)]


def until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)


def recorded():
    store = Path("artifacts/recordings/reach/bc")
    stored = sum(map(len, read_store(store))) if listed_segments(store) else 0
    return stored + sum(len(read_journal(path)[1]) for path in store.glob("*.jsonl"))


def test_a_session_that_is_killed_is_gone_on_with_and_nothing_is_lost(project):
    stage = start()
    until(lambda: len(commands()) >= 30)
    stage.kill()
    stage.communicate(timeout=200)  # until the processes that it started have closed what they inherited of it
    assert log()[-1] == "stop"
    before = commands()
    assert len(before) - recorded() <= 1
    again = start()
    _, said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert "control at 20 Hz" in said
    total = env_steps(Path("artifacts/finetuned_robot/bc")) - 40
    assert 80 <= total <= 80 + 4
    # What was commanded before the kill counts; at most what came after its last whole chunk was played again.
    assert len(commands()) - len(before) <= total - len(before) + 2 * 4
    assert recorded() >= len(commands()) - 1
    assert log()[-1] == "stop"


def test_a_session_that_is_over_is_not_played_again_where_dvc_could_not_record_it(project):
    finetuned_with(PARAMS.replace("clock: wall, lead: 1", "clock: simulated").replace("env_steps: 80", "env_steps: 24"))
    result, curve = Path("artifacts/finetuned_robot/bc"), Path("plots/finetune_robot.bc.csv")
    _, said = start().communicate(timeout=200)
    played, written = log(), curve.read_text()
    curve.unlink()  # which DVC takes away before a stage begins
    _, said = start().communicate(timeout=200)
    assert "this session is over" in said
    assert (log(), curve.read_text()) == (played, written)
    assert not list(Path(".work/checkpoints").glob("finetune_robot.bc*/"))
    shutil.rmtree(result)
    _, said = start().communicate(timeout=200)
    assert len(log()) == 2 * len(played), said


def test_another_simulated_physics_is_another_run_and_another_port_is_not(project):
    from stages import finetune_robot

    def run_of(**robot):
        config = load_config()
        robot = replace(config.finetune_robot.robot, **robot)
        config = replace(config, finetune_robot=replace(config.finetune_robot, robot=robot))
        where = finetune_robot.arena(config, "bc", None)
        assert where.experience.identity == where.checkpoints.identity.encode()
        return where.checkpoints.identity

    assert run_of(options={"mass": 1.5}) == run_of(options={"mass": 1.5, "motor_log": "elsewhere"})
    assert run_of(options={"mass": 1.5}) != run_of(options={"mass": 2.0})
    arm = {"type": "so101_follower"}
    assert run_of(**arm, options={"port": "/dev/ttyACM0"}) == run_of(**arm, options={"port": "/dev/ttyACM1"})


def checked():
    command = [sys.executable, "-m", "stages.finetune_robot", "--method", "bc", "--check"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not log()
    return done.stdout, done.stderr


def test_a_check_says_how_everything_fits_and_connects_nothing(project):
    printed, said = checked()
    for words in (
        "nothing was connected",
        "state[1] = agent_pos.1",
        "action.0 within -1 to 1",
        "20 Hz on the wall's clock",
    ):
        assert words in printed
    assert "beyond" not in said


def test_a_check_warns_of_a_policy_that_reaches_beyond_the_limits(project):
    finetuned_with(PARAMS.replace("low: [-1, -1]", "low: [-1, -0.5]"))
    _, said = checked()
    assert "action.1: the policy's -1 to 1 is beyond the limits -0.5 to 1" in said
    assert "action.0: the policy" not in said


def test_rewards_of_two_kinds_are_not_mixed():
    config = Config(task=TaskConfig(name="pusht", env="pusht"), ingest=IngestConfig("data/pusht"))
    with pytest.raises(ConfigError, match=r"finetune_robot.replay: .* pusht's own reward"):
        refuse_mixed_rewards(config)
    # Nothing that was played is gone on with.
    refuse_mixed_rewards(replace(config, finetune_sim=replace(config.finetune_sim, env_steps=0, initial_steps=0)))
    sim, robot = (replace(one, algorithm="dppo") for one in (config.finetune_sim, config.finetune_robot.finetune))
    learned = replace(config.finetune_robot, finetune=robot)
    refuse_mixed_rewards(replace(config, finetune_sim=sim, finetune_robot=learned))
    for name in ("pusht", "pusht_pixels"):
        preset = yaml.safe_load((ROOT / "conf" / "task" / f"{name}.yaml").read_text())
        assert get_task(name).dense and preset["finetune_robot"]["replay"] is False


def test_a_policy_that_is_exchanged_while_it_is_read_does_not_move_the_robot(project, monkeypatch):
    from stages import finetune_robot

    learner_of = finetune_robot.RemoteLearner

    def exchanging(*about):
        learner = learner_of(*about)
        learner.settle()
        finetuned_with(PARAMS, seed=1)
        return learner

    monkeypatch.setattr(finetune_robot, "RemoteLearner", exchanging)
    with pytest.raises(MismatchError, match="exchanged"):
        finetune_robot.main(load_config(), SimpleNamespace(method="bc", request=False, check=False))
    assert not log()


@pytest.mark.parametrize("q", [math.nan, -3.0])
def test_what_is_learned_once_the_robot_rests_is_checked_and_shown(project, monkeypatch, q):
    from stages import finetune_robot

    class Late(finetune_robot.RemoteLearner):
        def settle(self):
            super().settle()
            return {"q": q}

    monkeypatch.setattr(finetune_robot, "RemoteLearner", Late)
    finetuned_with(PARAMS.replace("clock: wall, lead: 1", "clock: simulated").replace("env_steps: 80", "env_steps: 8"))
    main = partial(finetune_robot.main, load_config(), SimpleNamespace(method="bc", request=False, check=False))
    if math.isnan(q):
        with pytest.raises(TrainingDivergedError):
            main()
        assert not Path("artifacts/finetuned_robot/bc").exists()
    else:
        main()
        names, *_, last = (line.split(",") for line in Path("plots/finetune_robot.bc.csv").read_text().splitlines())
        assert last[names.index("q")] == "-3.0"


def test_the_papers_protocol_collects_then_learns_then_plays_the_best_of_several(project):
    small = "{episodes: 3, updates_after: 9, hidden: 16, layers: 1, batch: 8, updates_per_chunk: 1}"
    sections = f"finetune_sim: {{hidden: 16, layers: 1}}\nfinetune_robot: {{finetune: {small}}}\n"
    finetuned_with(f"task: reach\nsize: default\nprotocol: rollouts\n{sections}")
    _, said = start().communicate(timeout=200)
    assert "armed by simulated" in said
    rows = Path("plots/finetune_robot.bc.csv").read_text().splitlines()
    assert rows[-1].split(",")[rows[0].split(",").index("training_episodes")] == "3"
    policy = load_policy(Path("artifacts/finetuned_robot/bc/policy"))
    assert (policy.latent, policy.samples) == ("best", 16)
    assert len(list(read_store(Path("artifacts/recordings/reach/bc")))) == 3


def test_a_session_that_is_interrupted_ends_in_the_safe_state(project):
    stage = start()
    until(lambda: len(commands()) >= 5)
    stage.send_signal(signal.SIGINT)
    _, said = stage.communicate(timeout=200)
    assert stage.returncode == 130, said
    assert log()[-1] == "stop"
    assert recorded() == len(commands())
    assert not list(Path("artifacts/recordings/reach/bc").glob("*.jsonl"))  # closed, not merely kept


def test_killed_at_random_moments_nothing_unsafe_reaches_the_motors(tmp_path):
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-m",
        "benchmarks.kills",
        "--trials",
        "7",
        "--slack",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert len(found["rows"]) == 7
