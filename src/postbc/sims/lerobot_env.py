"""postbc's tasks for ``lerobot-eval --env.type=postbc --env.task=lift``."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from postbc.observation import ENVIRONMENT, PIXELS, STATE
from postbc.sims import get_task
from postbc.sims.starts import EVALUATION, LEROBOT_RUN, STRIDE, nth_seed


class _HeldOut(gym.Wrapper):
    """LeRobot counts seeds from --seed; these are initial states that no demonstration and no training began from."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset to the evaluation state number ``seed``, of a run of its own."""
        held = None if seed is None else nth_seed(EVALUATION, LEROBOT_RUN, seed % STRIDE)
        begun: tuple[Any, dict[str, Any]] = self.env.reset(seed=held, options=options)
        return begun


def _make(task: str, options: dict[str, Any], max_steps: int) -> gym.Env:
    env = TimeLimit(_HeldOut(get_task(task).make(**options)), max_steps)
    env.unwrapped._max_episode_steps = max_steps
    env.unwrapped.task_description = env.unwrapped.task = task
    return env


@EnvConfig.register_subclass("postbc")
@dataclass
class PostbcEnvConfig(EnvConfig):
    """A task by its name in postbc.sims.TASKS, with its options; rate and time limit are its own where they are 0."""

    task: str | None = "lift"
    fps: int = 0
    episode_length: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            "environment_state": "observation.environment_state",
            "pixels": "observation.image",
        }
    )

    def __post_init__(self) -> None:
        known = get_task(str(self.task))
        self.fps, self.episode_length = self.fps or known.fps, self.episode_length or known.horizon
        env = known.make(**self.options)
        kinds = {STATE: FeatureType.STATE, ENVIRONMENT: FeatureType.ENV, PIXELS: FeatureType.VISUAL}
        boxes = {key: box for key, box in env.observation_space.items() if box.shape != (0,)}
        self.features = {key: PolicyFeature(type=kinds[key], shape=tuple(box.shape)) for key, box in boxes.items()}
        self.features["action"] = PolicyFeature(type=FeatureType.ACTION, shape=tuple(env.action_space.shape))
        env.close()

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Not used: :meth:`create_envs` makes the environments itself."""
        return {}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, gym.vector.VectorEnv]]:
        """``n_envs`` environments in the form that lerobot-eval asks for."""
        make = partial(_make, str(self.task), dict(self.options), self.episode_length)
        mode = gym.vector.AutoresetMode.SAME_STEP
        if use_async_envs and n_envs > 1:
            vector: Any = gym.vector.AsyncVectorEnv([make] * n_envs, context="forkserver", autoreset_mode=mode)
        else:
            vector = gym.vector.SyncVectorEnv([make] * n_envs, autoreset_mode=mode)
        return {"postbc": {0: vector}}
