"""A twin of an SO-101-like arm, commanded joint by joint, lifts a cube from the table.

Observed and commanded are LeRobot's numbers of an ``so101_follower`` with ``use_degrees=True``: five joints in degrees from
the middle of their ranges, the gripper in % of its opening; an action (A = 6) is their absolute target. Positive are, as
seen from behind the arm: pan to the right, lift, elbow and wrist forwards and down, roll clockwise. 30 Hz. The model
(``so101.xml``) is this project's own, of boxes and cylinders with roughly the arm's lengths and servos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, ClassVar, Final

import numpy as np

from postbc.errors import ConfigError
from postbc.features import Feature, Features
from postbc.observation import ObsShape
from postbc.sims.demonstrators.hand import ArmOperator
from postbc.sims.demonstrators.joints import JointOperator, Lead
from postbc.sims.demonstrators.plan import Job, Sight
from postbc.sims.demonstrators.style import POOL, Style
from postbc.sims.kinematics import Kinematics
from postbc.sims.rendering import choose_backend
from postbc.sims.stepping import Stepping
from postbc.sims.task import Array, Observation, OperatorFactory, Task, columns, maker, releases
from postbc.sims.tasks.mujoco_env import MujocoTaskEnv, alter

JOINTS: Final = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
SERVOS: Final = (*JOINTS, "gripper")
LOW: Final = (-110.0, -100.0, -97.0, -95.0, -157.0, 0.0)  # degrees, the last %
HIGH: Final = (110.0, 100.0, 97.0, 95.0, 163.0, 100.0)
OPENING: Final = 110.0  # degrees of the jaw at 100 %
FPS: Final = 30
SUBSTEPS: Final = 20  # of physics a control step
HOME: Final = (0.0, -60.0, 40.0, 75.0, 0.0, 20.0)  # degrees, %: where an episode starts, give or take
WOBBLE: Final = 2.0  # degrees or %, how far from HOME the joints may start
SETTLE: Final = 10  # control steps before an episode, in which the arm sinks into its servos
CENTRE: Final = (0.19, 0.0)  # metres, of the area in which the cube starts
EDGE: Final = 0.025  # metres, of the cube
RISE: Final = 0.05  # metres above where it lay that count as lifted
REACH: Final = 0.06  # metres from the centre, further than which the arm can not grasp from above
THUMB: Final = 0.08  # metres from the jaw's axis to its tip


@dataclass(frozen=True)
class Layout:
    """Where the cube starts."""

    placement: float  # metres along x and along y, either way
    yaw: float  # radians, either way
    seen: bool  # whether the cube is observed


LAYOUTS: Final = {"so101_lift": Layout(0.04, np.pi, True), "so101_lift_marked": Layout(0.005, np.deg2rad(5), False)}


def load_model() -> Any:
    """MuJoCo's model of arm, table and cube."""
    choose_backend()
    import mujoco

    model = mujoco.MjModel.from_xml_string(files(__package__).joinpath("so101.xml").read_text())
    model.opt.timestep = 1 / FPS / SUBSTEPS
    return model


@cache
def kinematics() -> Kinematics:
    """Of the fingertips, from the five joints in radians."""
    return Kinematics(load_model(), "gripper", JOINTS)


_SCALE: Final = np.array([180 / np.pi] * 5 + [100 / np.deg2rad(OPENING)])  # radians → degrees, %


class So101Env(MujocoTaskEnv):
    """S = 6, A = 6, V = 5 or 0; see the module. ``mass`` is a factor on the cube, ``friction`` on all contacts."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(
        self, layout: Layout, mass: float = 1.0, friction: float = 1.0, placement: float | None = None
    ) -> None:
        """``placement`` is the layout's unless given. Raises ConfigError for one out of reach."""
        super().__init__(ObsShape(len(SERVOS), 5 if layout.seen else 0), LOW, HIGH)
        self._layout, self._placement = layout, layout.placement if placement is None else placement
        if not 0 <= self._placement <= REACH:
            raise ConfigError(
                f"task.options.placement = {placement}: expected 0 to {REACH} m; the arm reaches no further."
            )
        self._model = load_model()  # first: it chooses how MuJoCo draws, before MuJoCo loads
        from mujoco import MjData

        alter(self._model, "base", mass, friction)
        self._data = MjData(self._model)

    def _start(self, seed: int) -> None:
        from mujoco import mj_resetData, mj_step

        generator, wobble = np.random.default_rng(seed), WOBBLE * np.ones(len(SERVOS))
        joints = np.clip(HOME + generator.uniform(-wobble, wobble), LOW, HIGH) / _SCALE
        x, y = CENTRE + generator.uniform(-self._placement, self._placement, 2)
        yaw = generator.uniform(-self._layout.yaw, self._layout.yaw)
        mj_resetData(self._model, self._data)
        self._data.qpos[:] = [*joints, x, y, EDGE / 2, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self._data.ctrl[:] = joints
        mj_step(self._model, self._data, SETTLE * SUBSTEPS)
        self._refresh()

    def _refresh(self) -> None:
        """Positions of bodies follow the joints' at once, not a physics step later."""
        from mujoco import mj_kinematics

        mj_kinematics(self._model, self._data)

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 1/30 s towards the targets ``action``; the cube's rise by RISE ends the episode."""
        from mujoco import mj_step

        self._data.ctrl[:] = np.clip(np.asarray(action, np.float64), LOW, HIGH) / _SCALE
        mj_step(self._model, self._data, SUBSTEPS)
        self._refresh()
        success = bool(self._data.body("cube").xpos[2] > EDGE / 2 + RISE)
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Keys ``joints`` (6,), degrees and %, and ``cube`` (7,), metres and quaternion x y z w; float32."""
        cube = self._data.body("cube")
        joints = self._data.qpos[: len(SERVOS)] * _SCALE
        pose = np.concatenate([cube.xpos, cube.xquat[[1, 2, 3, 0]]])
        return {"joints": joints.astype(np.float32), "cube": pose.astype(np.float32)}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record(), self._layout)
        return {"agent_pos": state, "environment_state": environment}

    def idle_action(self) -> Array:
        """The targets that the servos have."""
        return np.asarray(self._data.ctrl * _SCALE, np.float32)

    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data."""
        return self._model, self._data


def faces(quat: Array) -> Array:
    """How a cube lies, (…, 4) x y z w → (…, 2) the same for each of its 24 attitudes: cos and sin of four times the yaw.

    Each axis ``a`` of the cube adds ``(a_x + i a_y)⁴ / 2``; for a cube on any of its faces the sum has length 1.
    """
    x, y, z, w = np.moveaxis(np.asarray(quat, np.float64), -1, 0)
    across = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)])
    along = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)])
    total = ((across + 1j * along) ** 4).sum(0) / 2
    return np.stack([total.real, total.imag], axis=-1)


def observe(recorded: Mapping[str, Array], layout: Layout, task: str = "so101_lift") -> tuple[Array, Array]:
    """Recorded ``joints`` (T, 6) and ``cube`` (T, 7) → joints (T, 6); position and :func:`faces` (T, 5) or nothing (T, 0)."""
    joints = columns(recorded, ("joints",), task)
    if not layout.seen:
        return joints, joints[..., :0]
    cube = columns(recorded, ("cube",), task)
    return joints, np.concatenate([cube[..., :3], faces(cube[..., 3:])], axis=-1, dtype=np.float32)


def see(record: Mapping[str, Array]) -> Sight:
    """What an operator sees."""
    joints = np.asarray(record["joints"], np.float64)
    tool, attitude = kinematics().tool(np.deg2rad(joints[:-1]))
    opening = np.deg2rad(OPENING) * joints[-1] / 100
    return Sight(tool, attitude, np.asarray(record["cube"], np.float64), THUMB * opening / 2, np.deg2rad(joints[:-1]))


JOB: Final = Job(see=see, settle=6, empty=0.008, lengths=0.6, patience=2.0)


def _operator(style: Style, generator: np.random.Generator, scale: float) -> JointOperator:
    lead = Lead(kinematics(), LOW, HIGH, opened=30.0)
    return JointOperator(ArmOperator(JOB, style, generator, scale), lead)


def operators() -> Mapping[str, OperatorFactory]:
    """The whole pool at the leader arm."""
    return {name: partial(_operator, style) for name, style in POOL.items()}


def _features(layout: Layout) -> Features:
    servos = tuple(Feature(f"{name}.pos", "%" if name == "gripper" else "deg") for name in SERVOS)
    cube = [("cube.x", "m"), ("cube.y", "m"), ("cube.z", "m"), ("cube.cos4yaw", "1"), ("cube.sin4yaw", "1")]
    return Features(servos, tuple(Feature(*one) for one in cube) if layout.seen else (), servos)


def _options(layout: Layout) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda options: {"placement": layout.placement, **options}


def task(name: str) -> Task:
    """``so101_lift``, or ``so101_lift_marked``: the cube on a mark, observed by nobody."""
    layout = LAYOUTS[name]
    features = _features(layout)
    return Task(
        name=name,
        make=maker(name, partial(So101Env, layout), "placement", features=features),
        observe=partial(observe, layout=layout, task=name),
        action_low=LOW,
        action_high=HIGH,
        fps=FPS,
        horizon=240,
        success="the cube is 5 cm above where it lay",
        env_name="So101Lift",
        versions=lambda: {**releases("mujoco")(), "postbc-so101": "1"},  # raise it when an episode would look different
        env_kwargs=_options(layout),
        features=features,
        operators=operators,
        stepping=lambda: Stepping.THREADS,  # MuJoCo releases the GIL
    )
