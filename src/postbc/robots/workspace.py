"""Where a point of a joint-space arm is under commanded joints: forward kinematics on the arm's MuJoCo model."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config.robot import WorkspaceConfig
from postbc.errors import ConfigError
from postbc.robots.guard import Locate
from postbc.sims.kinematics import Kinematics
from postbc.sims.rendering import choose_backend

OWN = {"so101": "so101.xml"}  # models that come with the project, in postbc.sims.tasks
_FIELD = "finetune_robot.robot.guard.workspace"


def _load(name: str) -> Any:
    choose_backend()  # before MuJoCo is imported, or nothing is ever drawn
    from mujoco import MjModel

    path = Path(str(resources.files("postbc.sims.tasks") / OWN[name])) if name in OWN else Path(name)
    try:
        return MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ConfigError(f"{_FIELD}.model = {name!r}: {error} Expected an MJCF file, or {', '.join(OWN)}.") from error


def locator(config: WorkspaceConfig, actions: Sequence[str]) -> Locate:
    """A function from an action (A,), whose numbers are called ``actions``, to the place (3,) of the guarded point, metres.

    An action is the model's joint of the name before the first dot. Raises ConfigError for a model, a joint, a site or an
    action that there is not.
    """
    model = _load(config.model)
    joints, sites = (
        [getattr(model, kind)(i).name for i in range(n)] for kind, n in (("joint", model.njnt), ("site", model.nsite))
    )
    wrong = [name for name in config.joints if name not in actions or name.split(".")[0] not in joints]
    if wrong:
        raise ConfigError(
            f"{_FIELD}.joints: {', '.join(wrong)}: expected actions ({', '.join(actions)}) that are joints of the model "
            f"({', '.join(joints)})."
        )
    if config.site not in sites:
        raise ConfigError(f"{_FIELD}.site = {config.site!r}; {config.model} has {', '.join(sites) or 'none'}.")
    kinematics = Kinematics(model, config.site, [name.split(".")[0] for name in config.joints])
    read, scale = [list(actions).index(name) for name in config.joints], np.pi / 180 if config.degrees else 1.0

    def locate(action: Float[ndarray, "A"]) -> Float[ndarray, "3"]:
        return kinematics.tool(scale * np.asarray(action, float)[read])[0]

    return locate
