"""Tasks as LeRobot environments: sizes, rate and time limit are the task's own."""

import numpy as np

from postbc.sims import get_task
from postbc.sims.lerobot_env import PostbcEnvConfig
from postbc.sims.starts import EVALUATION, LEROBOT_RUN, seeds


def test_a_task_brings_its_own_sizes_rate_and_limit():
    config = PostbcEnvConfig(task="reach")
    assert (config.fps, config.episode_length) == (10, 40)
    assert {key: feature.shape for key, feature in config.features.items()} == {
        "action": (2,),
        "agent_pos": (2,),
        "environment_state": (2,),
    }
    assert PostbcEnvConfig(task="reach", episode_length=7).episode_length == 7


def test_episodes_end_at_the_limit():
    vector = PostbcEnvConfig(task="reach", episode_length=3).create_envs(2)["postbc"][0]
    vector.reset(seed=0)
    over = [vector.step(np.zeros((2, 2), np.float32))[3].tolist() for _ in range(3)]
    vector.close()
    assert over == [[False, False], [False, False], [True, True]]


def test_lerobots_seeds_are_initial_states_that_were_held_out():
    vector = PostbcEnvConfig(task="reach").create_envs(2)["postbc"][0]
    seen = vector.reset(seed=[0, 1])[0]["environment_state"]
    vector.close()
    env = get_task("reach").make()
    held_out = [env.reset(seed=seed)[0]["environment_state"] for seed in seeds(EVALUATION, LEROBOT_RUN, 2)]
    assert np.array_equal(seen, held_out)
