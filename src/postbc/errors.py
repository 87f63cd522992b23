"""Every error a user can meet, in one tree. Each message says what was seen, what was expected, what to do.

PostbcError
├── ConfigError          params.yaml or conf/ asks for something impossible
├── DataError            a demonstration file or store is not what it should be
│   └── IntegrityError   bytes on disk differ from what was written
├── MismatchError        two artifacts do not belong together (fingerprints differ)
├── TrainingDivergedError  a loss or a parameter is no longer finite
├── LearnerLostError the process that learns is gone
├── RenderingUnavailableError  no OpenGL library draws off screen here
├── RegistryError        MLflow holds no such model, version or alias
└── RobotError           the robot path refuses
    ├── NotArmedError    no valid arming token
    ├── StoppedError     the operator asked to stop
    └── UnsafeActionError  an action is not finite, has the wrong shape or no limits to be checked against

SimulatorWarning         a simulator runs, but not as it was meant to
"""


class PostbcError(Exception):
    """Base of all errors that are the user's to read; commands print it and exit with code 2."""


class ConfigError(PostbcError):
    """A configuration value is unknown, has the wrong type or is impossible."""


class DataError(PostbcError):
    """A demonstration file, store or data set is missing or malformed."""


class IntegrityError(DataError):
    """A file is missing, truncated or altered since it was written."""


class MismatchError(PostbcError):
    """Two artifacts do not belong together."""


class TrainingDivergedError(PostbcError):
    """Training produced a value that is not finite."""


class LearnerLostError(PostbcError):
    """The process that learns is gone."""


class RenderingUnavailableError(PostbcError):
    """No OpenGL library draws off screen here."""


class RegistryError(PostbcError):
    """The model registry has no such model, version or alias."""


class RobotError(PostbcError):
    """The robot path refuses to go on."""


class NotArmedError(RobotError):
    """Nobody armed this robot for this policy."""


class StoppedError(RobotError):
    """The operator asked to stop."""


class UnsafeActionError(RobotError):
    """An action must not reach the robot."""


class SimulatorWarning(UserWarning):
    """A simulator runs, but slower than it could or in a release that nothing was measured with."""
