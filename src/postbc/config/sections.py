"""How sections of ``params.yaml`` are called, and how their values are bounded."""

import math

from postbc.errors import ConfigError

SECTIONS = {
    "TaskConfig": "task (in conf/task/ only)",
    "IngestConfig": "ingest",
    "PosteriorConfig": "posterior",
    "PretrainConfig": "pretrain",
    "FinetuneConfig": "finetune_sim, finetune_robot.finetune",
    "DppoConfig": "finetune_sim.dppo, finetune_robot.finetune.dppo",
    "FinetuneRobotConfig": "finetune_robot",
    "RobotConfig": "finetune_robot.robot",
    "GuardConfig": "finetune_robot.robot.guard",
    "WorkspaceConfig": "finetune_robot.robot.guard.workspace",
    "OperatorConfig": "finetune_robot.robot.operator",
    "TeleopConfig": "finetune_robot.robot.operator.teleop",
    "EvaluateConfig": "evaluate",
    "RegisterConfig": "register",
}  # of params.yaml, by class


def require(owner: object, **conditions: bool) -> None:
    """Raise ConfigError for the first field whose condition is false."""
    for name, satisfied in conditions.items():
        if not satisfied:
            raise ConfigError(
                f"{SECTIONS[type(owner).__name__]}: {name} = {getattr(owner, name)!r} is impossible beside the rest of "
                "that section; docs/configuration.md gives the bounds."
            )


def is_size(value: int | float | str) -> bool:
    """Whether ``value`` is a finite number that is not negative."""
    return isinstance(value, int | float) and 0 <= value < math.inf
