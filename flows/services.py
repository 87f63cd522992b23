"""The servers that ``make serve`` starts: how, on which port, and how to see that they are ready."""

import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from flows.environment import HOST, WORK
from flows.processes import GRACE_S
from flows.stage import GRACE_S as STAGE_GRACE_S
from postbc.errors import ConfigError


@dataclass(frozen=True)
class Service:
    """A process to be kept running.

    Attributes:
        name: also the name of its log.
        command: how it is started.
        ready: addresses that all answer 200 once it is ready.
        env: what it needs beside the common environment.
        grace_s: how long it may take to end.
        vital: whether the others are ended when it ends; else it is started again.
    """

    name: str
    command: tuple[str, ...]
    ready: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    grace_s: float = GRACE_S
    vital: bool = True

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return WORK / "serve" / f"{self.name}.log"

    def is_ready(self) -> bool:
        """Whether every one of its addresses answers."""
        return all(_answers(address) for address in self.ready)


def services(mlflow_port: int, prefect_port: int, cron: str) -> tuple[Service, ...]:
    """MLflow, Prefect, live curves and the deployments, in the order of starting."""
    mlflow, prefect = f"http://{HOST}:{mlflow_port}", f"http://{HOST}:{prefect_port}"
    home = {"PREFECT_HOME": str((WORK / "prefect" / "server").resolve())}
    return (
        Service("mlflow", _mlflow(mlflow_port), (f"{mlflow}/health",), {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}),
        Service("prefect", _prefect(prefect_port), (f"{prefect}/api/health",), {**home, **_prefect_env(prefect)}),
        Service(
            "live",
            (str(Path(sys.executable).with_name("postbc")), "watch"),
            (),
            {"MLFLOW_TRACKING_URI": mlflow},
            vital=False,
        ),
        Service(
            "deployments",
            (sys.executable, "-m", "flows.deployments", "--cron", cron),
            tuple(f"{prefect}/api/deployments/name/pipeline/{name}" for name in ("pipeline", "finetune-robot")),
            {**home, "PREFECT_API_URL": f"{prefect}/api"},  # no MLflow address: models go where `dvc repro` puts them
            STAGE_GRACE_S + GRACE_S,  # its runs end their stages, and a robot reaches its safe state
        ),
    )


def _mlflow(port: int) -> tuple[str, ...]:
    store = ("--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./mlartifacts")
    return (sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *store)


def _prefect(port: int) -> tuple[str, ...]:
    served = ("--factory", "flows.server:app", "--host", HOST, "--port", str(port), "--log-level", "warning")
    return (sys.executable, "-m", "uvicorn", *served)


def _prefect_env(address: str) -> dict[str, str]:
    return {
        "PREFECT_API_URL": f"{address}/api",  # the user's shell may name another server
        "PREFECT_UI_API_URL": f"{address}/api",
        # Any page that the operator's browser has open could otherwise approve a robot run: the default is "*".
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{address},{address.replace(HOST, 'localhost')}",
    }


def require_free(ports: dict[str, int]) -> None:
    """Raise ConfigError for the first of ``{option: port}`` that cannot be listened on."""
    if len(set(ports.values())) < len(ports):
        raise ConfigError(f"{' and '.join(ports)} are the same port; each server needs its own.")
    for option, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                raise ConfigError(
                    f"Port {port} on {HOST} cannot be used ({error}). Stop what uses it or choose another with {option}."
                ) from error


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 - http to this machine
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
