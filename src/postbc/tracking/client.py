"""MLflow made quiet and explicit: no telemetry, no log lines, no global tracking URI, errors in our words."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from postbc.errors import RegistryError

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default waits for minutes when the server is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
METRICS_AT_ONCE = 1000  # that MLflow takes in one call
_LOCAL = "sqlite:///"
_VARIABLE = "MLFLOW_TRACKING_URI"


def resolve_uri(configured: str, root: Path = Path()) -> str:
    """The tracking URI in force: MLFLOW_TRACKING_URI if set, else ``configured``."""
    uri = os.environ.get(_VARIABLE) or configured
    return absolute_uri(uri, root)


def absolute_uri(uri: str, root: Path = Path()) -> str:
    """``uri`` with the path of an SQLite file made absolute."""
    return f"{_LOCAL}{(root / uri.removeprefix(_LOCAL)).resolve()}" if uri.startswith(_LOCAL) else uri


def shown(text: str) -> str:
    """``text`` without the names and passwords in its addresses."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def database(uri: str) -> Path | None:
    """The SQLite file behind ``uri``; None for a server."""
    return Path(uri.removeprefix(_LOCAL)) if uri.startswith(_LOCAL) else None


def quiet_mlflow() -> Any:
    """Import MLflow (seconds) with telemetry and log lines off; a user's own settings win."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


@contextmanager
def global_uri(uri: str) -> Iterator[None]:
    """Make ``uri`` MLflow's global one for the calls that read nothing else, and put the old one back."""
    mlflow = quiet_mlflow()
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    environment = os.environ.get(_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        if environment is not None:
            os.environ[_VARIABLE] = environment
        else:
            os.environ.pop(_VARIABLE, None)


@contextmanager
def in_our_words(uri: str, doing: str) -> Iterator[None]:
    """Turn MLflow's errors into RegistryError that says what was being done, where."""
    mlflow = quiet_mlflow()
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        reason = shown(str(error)).splitlines()[0][:300]
        raise RegistryError(
            f"{doing} at {shown(uri)}: {reason} `postbc models list` shows what there is; MLFLOW_TRACKING_URI or "
            "register.tracking_uri in params.yaml say where to look."
        ) from error
