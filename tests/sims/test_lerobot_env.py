"""Tasks as LeRobot environments: sizes, rate and time limit are the task's own."""

import numpy as np

from postbc.sims.lerobot_env import PostbcEnvConfig


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
