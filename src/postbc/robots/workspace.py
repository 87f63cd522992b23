"""Where a point of a joint-space arm is under commanded joints: forward kinematics on the arm's MuJoCo model."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config import WorkspaceConfig
from postbc.errors import ConfigError

OWN = {"so101": "so101.xml"}  # models that come with the project, in postbc.sims.tasks


def _load(name: str) -> mujoco.MjModel:
    path = Path(str(resources.files("postbc.sims.tasks") / OWN[name])) if name in OWN else Path(name)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ConfigError(
            f"finetune_robot.robot.guard.workspace.model = {name!r}: {error} Expected an MJCF file, or {', '.join(OWN)}."
        ) from error


class Kinematics:
    """``Kinematics(config, actions)(action)`` is the place of the guarded point, metres, under an action (A,).

    ``actions`` are the names of its numbers. Raises ConfigError for a model, joint, site or action that there is not.
    """

    def __init__(self, config: WorkspaceConfig, actions: Sequence[str]) -> None:
        self.model = _load(config.model)
        self.data = mujoco.MjData(self.model)
        joints = {mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_JOINT, i) for i in range(self.model.njnt)}
        named = {name: name.split(".")[0] for name in config.joints}
        for name, joint in named.items():
            if name not in actions or joint not in joints:
                raise ConfigError(
                    f"finetune_robot.robot.guard.workspace.joints: {name} is not both an action ({', '.join(actions)}) and a "
                    f"joint of the model ({', '.join(sorted(filter(None, joints)))})."
                )
        self.site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, config.site)
        if self.site < 0:
            raise ConfigError(f"finetune_robot.robot.guard.workspace.site: {config.model} has no site {config.site!r}.")
        self.scale = np.pi / 180 if config.degrees else 1.0
        self.read = [list(actions).index(name) for name in named]
        self.written = [int(self.model.joint(joint).qposadr[0]) for joint in named.values()]

    def __call__(self, action: Float[ndarray, "A"]) -> Float[ndarray, "3"]:
        """Metres in the model's frame; the model's other joints are where it puts them."""
        self.data.qpos[self.written] = self.scale * np.asarray(action, float)[self.read]
        mujoco.mj_kinematics(self.model, self.data)
        return np.array(self.data.site_xpos[self.site])
