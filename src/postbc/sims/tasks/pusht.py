"""PushT: gym-pusht's disc pushes a T-shaped block onto its place. 10 Hz, low-dimensional observations.

Actions (A = 2) are target positions of the disc in [0, 512]². The reward is the covered part of the goal over
0.95, at most 1; covering more than 0.95 is success. Recorded human demonstrations hold ``state`` (T, 5): disc
x y, block x y and angle; the keypoints are computed from it exactly as gym-pusht does.
"""

import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np

from postbc.errors import DataError
from postbc.observation import ENVIRONMENT, PIXELS, ObsShape
from postbc.sims.rendering import SIZE
from postbc.sims.task import Array, Observation, Task, TaskEnv, columns, maker, releases

FPS: Final = 10
CAMERA: Final = 96  # pixels, both ways
LOW, HIGH = (0.0, 0.0), (512.0, 512.0)
# Corners of the T's bar and stem in the block's frame, in pixels and in the order of gym-pusht's keypoints.
BAR: Final = ((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0))
STEM: Final = ((-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0))


def _simulation(obs_type: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pygame reads its fonts through pkg_resources
        from gym_pusht.envs.pusht import PushTEnv as Simulation
    sizes = {"observation_width": CAMERA, "observation_height": CAMERA}
    return Simulation(obs_type=obs_type, visualization_width=SIZE, visualization_height=SIZE, **sizes)


class PushTEnv(TaskEnv):
    """S = 2: the disc's position; V = 16: the block's keypoints; A = 2: the disc's target. All in pixels.

    With ``camera`` an image (96, 96, 3) takes the place of the keypoints.

    gym-pusht stops the block dead after every 10 ms step and lets it slide along the disc without friction.
    ``friction`` below 1 makes the table slippery: the block keeps ``1 - friction`` of its velocity in each of
    those steps. Above 1 disc and block stick: their coefficient of friction is ``friction - 1``. ``mass``
    scales the block's mass while its moment of inertia stays, so a heavy block turns rather than moves.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(self, mass: float = 1.0, friction: float = 1.0, camera: bool = False) -> None:
        """Build the simulation; ``mass`` and ``friction`` are factors."""
        super().__init__(ObsShape(2, 0, (3, CAMERA, CAMERA)) if camera else ObsShape(2, 16), LOW, HIGH)
        self._simulation = _simulation("pixels_agent_pos" if camera else "environment_state_agent_pos")
        self._mass, self._friction = mass, friction
        if friction < 1:
            self._simulation.damping = (1 - friction) ** (1 / self._simulation.dt)  # pymunk counts it by the second

    def _start(self, seed: int) -> None:
        self._simulation.reset(seed=seed)
        self._alter()

    def _alter(self) -> None:
        """Apply mass and grip; gym-pusht builds a new block at every reset."""
        self._simulation.block.mass *= self._mass
        if self._friction > 1:
            for shape in self._simulation.space.shapes:
                shape.friction = np.sqrt(self._friction - 1)  # pymunk multiplies the two in contact

    def place(self, pose: Array) -> None:
        """Put disc and block where a recorded ``state`` (5,) says, at rest; call after a reset.

        The angle comes first: setting it turns the block about its centre of mass and so moves its origin.
        """
        simulation = self._simulation
        simulation.agent.position, simulation.agent.velocity = pose[:2].tolist(), (0, 0)
        simulation.block.angle = float(pose[4])
        simulation.block.position = pose[2:4].tolist()
        simulation.space.step(simulation.dt)

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 100 ms; the reward is gym-pusht's."""
        target = np.clip(np.asarray(action, np.float64), 0.0, 512.0)
        seen, reward, success, _, _ = self._simulation.step(target)
        return _typed(seen), float(reward), bool(success), False, {"is_success": bool(success)}

    def record(self) -> Observation:
        """Key ``state`` (5,), float32: disc x y, block x y, block angle in [0, 2π)."""
        return {"state": self.simulator_state().astype(np.float32)}

    def observe(self) -> Observation:
        """The present observation, as gym-pusht computes it."""
        return _typed(self._simulation.get_obs())

    def simulator_state(self) -> Array:
        """As :meth:`record`, in float64."""
        disc, block = self._simulation.agent, self._simulation.block
        return np.array([*disc.position, *block.position, block.angle % (2 * np.pi)])

    def idle_action(self) -> Array:
        """Stay at the present position."""
        return np.array(self._simulation.agent.position, np.float32)

    def render(self) -> Array:
        """The table from above, with the last target: (256, 256, 3) uint8."""
        return np.asarray(self._simulation.render(), np.uint8)


def _typed(seen: Mapping[str, Array]) -> Observation:
    """gym-pusht's observation as the task's: images stay bytes."""
    given = {ENVIRONMENT: np.zeros(0), **seen}
    return {key: np.asarray(value, np.uint8 if key == PIXELS else np.float32) for key, value in given.items()}


def keypoints(pose: Array) -> Array:
    """Block poses (…, 3), x y and angle → keypoints (…, 16), x y of the bar's corners, then of the stem's."""
    corners = np.array(BAR + STEM)
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    turned = np.einsum("...ij,kj->...ki", rotation, corners) + pose[..., None, :2]
    return np.asarray(turned.reshape(*pose.shape[:-1], 16))


def observe(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded ``state`` (T, 5) → disc position (T, 2), keypoints (T, 16)."""
    state = columns(recorded, ("state",), "pusht")
    if state.shape[-1] != 5:
        raise DataError(f"demonstrations of pusht need `state` (T, 5), found {state.shape}.")
    return state[..., :2], keypoints(state[..., 2:].astype(np.float64)).astype(np.float32)


def draw(recorded: Mapping[str, Array]) -> Array:
    """Recorded ``state`` (T, 5) → what the camera would have seen, (T, 96, 96, 3) uint8."""
    env = PushTEnv(camera=True)
    env.reset(seed=0)
    images = []
    for pose in columns(recorded, ("state",), "pusht_pixels"):
        env.place(pose)
        images.append(env.observe()[PIXELS])
    return np.stack(images)


def observe_disc(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded ``state`` (T, 5) → disc position (T, 2), and nothing (T, 0): the rest is in the images."""
    state = columns(recorded, ("state",), "pusht_pixels")
    return state[..., :2], state[..., :0]


def task(name: str) -> Task:
    """``pusht``, or ``pusht_pixels``: the same seen by a camera, images drawn where a recording has none."""
    camera = name == "pusht_pixels"
    return Task(
        name=name,
        make=maker(name, partial(PushTEnv, camera=camera)),
        observe=observe_disc if camera else observe,
        pixels="img" if camera else None,
        draw=draw if camera else None,
        action_low=LOW,
        action_high=HIGH,
        fps=FPS,
        horizon=300,
        success="the block covers 95 % of its place",
        dense=True,
        env_name="gym_pusht/PushT-v0",
        versions=releases("gym-pusht", "pymunk"),
    )
