"""An SO-101-like arm in joint space: LeRobot's names and units, starts, physics, operators, and wrong sensors."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from postbc.errors import ConfigError
from postbc.sims import Dynamics, get_task
from postbc.sims.demonstrators.plan import rotation
from postbc.sims.demonstrators.recording import Episode, play
from postbc.sims.rendering import RenderingUnavailableError
from postbc.sims.task import Array, TaskEnv
from postbc.sims.tasks.so101 import CENTRE, FPS, JOINTS, SUBSTEPS, faces, kinematics

TASK, MARKED = get_task("so101_lift"), get_task("so101_lift_marked")
OPERATORS = TASK.operators()


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    env = TASK.make()
    yield env
    env.close()


def hold(env: TaskEnv, targets: Array, steps: int) -> Array:
    """Where the joints are after ``steps`` of the same targets."""
    return [env.step(targets)[0]["agent_pos"] for _ in range(steps)][-1]


def test_numbers_are_called_as_lerobots_follower_calls_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from lerobot.motors import MotorNormMode
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig, so_follower

    def bus(motors: dict, **options: object) -> SimpleNamespace:  # the real one needs the servos' driver
        return SimpleNamespace(motors=motors)

    monkeypatch.setattr(so_follower, "FeetechMotorsBus", bus)
    robot = SO101Follower(SO101FollowerConfig(port="none", use_degrees=True, calibration_dir=tmp_path))
    kinds = [motor.norm_mode for motor in robot.bus.motors.values()]
    assert kinds == [MotorNormMode.DEGREES] * 5 + [MotorNormMode.RANGE_0_100]
    for task in (TASK, MARKED):
        assert task.features
        for part in (task.features.state, task.features.action):
            assert [one.name for one in part] == list(robot.action_features)
            assert [one.unit for one in part] == ["deg"] * 5 + ["%"]
        shape = task.make().shape
        assert (len(task.features.state), len(task.features.environment)) == (shape.state, shape.environment)


def test_a_control_step_takes_a_thirtieth_of_a_second(env: TaskEnv):
    env.reset(seed=0)
    before = env.simulator_state()[0]
    hold(env, env.idle_action(), FPS)
    assert env.simulator_state()[0] - before == pytest.approx(1.0, abs=1e-9)
    assert SUBSTEPS / FPS < 1


def test_joints_go_where_they_are_told_in_degrees_and_percent(env: TaskEnv):
    env.reset(seed=0)
    wanted = np.array([30, -50, 40, 60, -80, 80], np.float32)
    reached = hold(env, wanted, 60)
    assert np.abs(reached - wanted).max() < 4  # a servo gives way to the arm's weight
    np.testing.assert_allclose(np.rad2deg(env.simulator_state()[1:6]), reached[:5], rtol=1e-5)


def test_an_impossible_target_is_that_of_the_joint_s_end(env: TaskEnv):
    ends = []
    for factor in (1.0, 10.0):
        env.reset(seed=0)
        ends.append(hold(env, np.array([-60, -60, 60, 0, 0, 100]) * factor, 5))
    env.reset(seed=0)
    ends.append(hold(env, np.clip(np.array([-60, -60, 60, 0, 0, 100]) * 10.0, TASK.action_low, TASK.action_high), 5))
    np.testing.assert_array_equal(ends[1], ends[2])
    assert not np.array_equal(ends[0], ends[1])


def test_the_idle_action_keeps_the_arm_where_it_is(env: TaskEnv):
    start = env.reset(seed=0)[0]["agent_pos"]
    assert np.abs(hold(env, env.idle_action(), 30) - start).max() < 0.2


def test_positive_joints_turn_right_forwards_down_and_open():
    home, moved = np.zeros(5), 0.2
    place, attitude = kinematics().tool(home)
    assert place[0] > 0.3  # stretched out ahead
    assert attitude[:, 2] == pytest.approx((1, 0, 0), abs=1e-6)
    assert kinematics().tool(home + moved * np.eye(5)[0])[0][1] < -0.05
    for joint in (1, 2, 3):
        assert kinematics().tool(home + moved * np.eye(5)[joint])[0][2] < place[2] - 0.01
    assert kinematics().tool(home + moved * np.eye(5)[4])[1][2, 1] == pytest.approx(np.sin(moved))


def test_the_tool_moves_as_it_is_asked_to():
    joints, push = np.deg2rad((10, -30, 40, 75, 20)), np.array([0.002, -0.001, 0.001, 0, 0, 0.01])
    place, _ = kinematics().tool(joints)
    moved, _ = kinematics().tool(joints + kinematics().follow(joints, push))
    assert moved - place == pytest.approx(push[:3], abs=4e-4)
    assert len(JOINTS) == 5


@pytest.mark.parametrize(("task", "placement", "turned"), [(TASK, 0.04, np.pi), (MARKED, 0.005, np.deg2rad(5))])
def test_seeds_decide_where_the_cube_lies(task, placement: float, turned: float):
    env, cubes = task.make(), []
    for seed in range(100):
        env.reset(seed=seed)
        cubes.append(env.record()["cube"])
    away = np.array(cubes)[:, :2] - CENTRE
    assert np.abs(away).max() <= placement + 1e-4
    assert np.abs(away).max() > 0.9 * placement
    yaws = [np.arctan2(*rotation(cube[3:])[1::-1, 0]) for cube in cubes]
    assert 0.9 * turned < np.abs(yaws).max() <= turned + 1e-3
    env.reset(seed=7)
    np.testing.assert_array_equal(env.record()["cube"], cubes[7])


def test_a_placement_out_of_reach_is_refused():
    with pytest.raises(ConfigError, match="placement"):
        TASK.make(placement=0.2)


def test_a_cube_on_another_face_is_the_same_cube():
    turn = np.array([[0, 0, np.sin(0.2), np.cos(0.2)], [0, 0, np.sin(0.2 + np.pi / 4), np.cos(0.2 + np.pi / 4)]])
    assert faces(turn)[0] == pytest.approx((np.cos(1.6), np.sin(1.6)))
    assert faces(turn)[1] == pytest.approx(faces(turn)[0])
    tipped = np.array([np.cos(0.2), np.sin(0.2), np.sin(0.2), np.cos(0.2)]) / np.sqrt(2)  # turned after a quarter roll
    assert faces(tipped) == pytest.approx(faces(turn)[0])


def test_an_episode_comes_back_exactly(env: TaskEnv):
    """In the middle of a grasp, where contacts carry the most history."""
    operator = OPERATORS["steady"](np.random.default_rng(0), 0.0)
    actions = play(env, operator, Episode("steady", 3), TASK.horizon).actions
    env.reset(seed=3)
    for action in actions[:-8]:
        env.step(action)
    saved = env.save()
    first = [(env.step(action), env.simulator_state())[1] for action in actions[-8:]]
    env.reset(seed=9)
    env.restore(saved)
    second = [(env.step(action), env.simulator_state())[1] for action in actions[-8:]]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_lifts_the_cube(env: TaskEnv, name: str):
    for seed, scale in enumerate((0.0, 1.0)):
        episode = play(env, OPERATORS[name](np.random.default_rng(seed), scale), Episode(name, seed), TASK.horizon)
        assert episode.success
        assert episode.obs[-1]["cube"][2] > 0.05
        assert all(env.action_space.contains(action) for action in episode.actions)


def test_operators_lead_the_arm_gently(env: TaskEnv):
    operator = OPERATORS["hasty"](np.random.default_rng(0), 1.0)
    episode = play(env, operator, Episode("hasty", 0), TASK.horizon)
    steps = np.abs([b - a for a, b in pairwise(episode.actions)])
    assert steps[:, :5].max() < 15  # degrees in a thirtieth of a second


def test_the_marked_cube_is_seen_by_operators_only():
    env = MARKED.make()
    observation, _ = env.reset(seed=0)
    assert (observation["agent_pos"].shape, observation["environment_state"].shape) == ((6,), (0,))
    operator = MARKED.operators()["steady"](np.random.default_rng(0), 1.0)
    episode = play(env, operator, Episode("steady", 0), MARKED.horizon)
    assert episode.success
    recorded = {key: np.stack([frame[key] for frame in episode.obs]) for key in ("joints",)}
    state, nothing = MARKED.observe(recorded)  # a recording of the arm alone is enough
    assert (state.shape, nothing.shape) == ((len(episode), 6), (len(episode), 0))


def test_a_slippery_or_heavy_cube_is_not_lifted_as_the_normal_one_is():
    def lifted(dynamics: Dynamics) -> bool:
        twin = TASK.make(dynamics)
        return play(twin, OPERATORS["steady"](np.random.default_rng(0), 0.0), Episode("steady", 0), 90).success

    assert lifted(Dynamics())
    assert not lifted(Dynamics(friction=0.003))
    assert not lifted(Dynamics(mass=200))


def errors(dynamics: Dynamics, seed: int, steps: int = 60, task=TASK) -> Array:
    """What a disturbed environment reports, less what is true: (T, S + V)."""
    clean, wrong = task.make(), task.make(dynamics)
    seen = [[env.reset(seed=seed)[0] for env in (clean, wrong)]]
    seen += [[env.step(env.idle_action())[0] for env in (clean, wrong)] for _ in range(steps)]
    keys = ("agent_pos", "environment_state")
    return np.array([np.concatenate([wrong[key] - clean[key] for key in keys]) for clean, wrong in seen])


def test_noise_is_as_large_in_degrees_and_percent_as_in_radians_and_metres():
    std = errors(Dynamics(sensor_noise=0.01), 0, 300).std(0)
    assert std[:5] == pytest.approx(np.full(5, 0.573), rel=0.2)
    assert std[5] == pytest.approx(1.0, rel=0.2)
    assert std[6:] == pytest.approx(np.full(5, 0.01), rel=0.2)


def test_a_bias_stays_for_an_episode_and_follows_the_seed():
    bias = errors(Dynamics(bias=0.01), 0)
    assert np.abs(bias[0]).min() > 0
    np.testing.assert_allclose(bias, np.broadcast_to(bias[0], bias.shape), atol=1e-4)
    np.testing.assert_array_equal(bias, errors(Dynamics(bias=0.01), 0))
    episodes = np.array([errors(Dynamics(bias=0.01), seed, 0)[0] for seed in range(40)])
    assert episodes[:, :5].std() == pytest.approx(0.573, rel=0.25)
    assert episodes[:, 6:].std() == pytest.approx(0.01, rel=0.25)


def test_noise_and_bias_are_in_raw_units_where_a_task_names_none():
    first = errors(Dynamics(bias=0.5), 3, 0, get_task("reach"))[0]
    assert 0.05 < np.abs(first).mean() < 1.5
    np.testing.assert_array_equal(first, errors(Dynamics(bias=0.5), 3, 0, get_task("reach"))[0])


def test_a_dropped_observation_is_the_last_one_once_more():
    env = get_task("reach").make(Dynamics(dropped=0.3))
    clean = get_task("reach").make()

    def course() -> tuple[Array, Array]:
        seen = [[one.reset(seed=2)[0]["agent_pos"] for one in (env, clean)]]
        seen += [[one.step(np.array([0, 0.1]))[0]["agent_pos"] for one in (env, clean)] for _ in range(120)]
        told, true = zip(*seen, strict=True)
        return np.array(told), np.array(true)

    told, true = course()
    stale = (told != true).any(1)
    for t in np.flatnonzero(stale):
        np.testing.assert_array_equal(told[t], told[t - 1])
    assert not stale[0]
    assert 0.15 < stale.mean() < 0.45
    np.testing.assert_array_equal(told, course()[0])


@pytest.mark.parametrize("values", [{"dropped": 1.0}, {"dropped": -0.1}, {"bias": -1.0}])
def test_impossible_sensors_are_refused(values: dict):
    with pytest.raises(ConfigError):
        Dynamics(**values)


def test_the_twin_has_the_same_wrong_sensors():
    from postbc.robots.config_twin import TwinConfig
    from postbc.robots.twin import Twin

    def start(**options: float) -> list[float]:
        twin = Twin(TwinConfig(env="so101_lift_marked", **options))
        twin.connect()
        for _ in range(3):
            seen = twin.get_observation()
            twin.send_action(dict(zip(twin.action_features, twin.env.idle_action(), strict=True)))
        return list(seen.values())

    plain = start()
    assert len(plain) == 6
    assert start() == plain
    assert start(bias=0.01) != plain
    assert start(dropped=0.9) != plain


def test_pictures_show_the_scene(env: TaskEnv):
    env.reset(seed=0)
    try:
        frame = env.render()
    except RenderingUnavailableError:
        pytest.skip("no OpenGL here")
    assert (frame.shape, frame.dtype) == ((256, 256, 3), np.uint8)
    assert frame.std() > 10
