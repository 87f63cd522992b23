"""MLflow, Prefect and the deployments on this machine until Ctrl-C: ``python -m flows.serve``, or ``make serve``.

Exit status: 0 after Ctrl-C or SIGTERM, 1 if a server died, 2 if the command is wrong or a port is taken.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from flows.environment import WORK, child_environment
from flows.processes import leashed
from flows.services import Service, require_free, services
from postbc.errors import ConfigError

_DEFAULT_CRON = "0 3 * * *"  # every night at three, UTC
_READY_S = 180.0  # all of them take about 40 s, cold, on two cores
_TAIL = 20
_AGAIN_S = 10.0  # between two starts of a service that keeps ending
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ServiceDiedError(RuntimeError):
    """A server ended, or never became ready."""

    def __init__(self, service: Service, what: str) -> None:
        """``what`` happened to it."""
        tail = "\n".join(service.log.read_text(errors="replace").splitlines()[-_TAIL:])
        super().__init__(f"{service.name} {what}. The end of {service.log}:\n{tail}")


class Supervisor:
    """Starts services and ends them, last started first, when its block is left."""

    def __init__(self, console: Console) -> None:
        """``console``: where progress is shown."""
        self._console, self._stack = console, ExitStack()
        self._running: list[tuple[Service, subprocess.Popen[str]]] = []
        self._again: dict[str, float] = {}  # when a service may be started again

    def __enter__(self) -> "Supervisor":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all services."""
        for number in _SIGNALS:  # when it is a dead server that ends the block
            signal.signal(number, signal.SIG_IGN)
        self._console.print("Stopping ...")
        self._stack.close()
        self._console.print("Stopped.")

    def start(self, service: Service) -> None:
        """Start ``service``, its output in its log."""
        for folder in (service.log.parent, WORK / "prefect"):  # Prefect makes the last folder of its home only
            folder.mkdir(parents=True, exist_ok=True)
        log = self._stack.enter_context(service.log.open("w"))
        process = self._stack.enter_context(
            leashed(service.command, child_environment(**service.env), log, service.grace_s)
        )
        self._running.append((service, process))

    def check(self) -> None:
        """Start a service that has ended again if it is not vital; raise ServiceDiedError if it is."""
        for service, process in list(self._running):
            if process.poll() is None:
                continue
            if service.vital:
                raise ServiceDiedError(service, f"ended with exit status {process.returncode}")
            if time.monotonic() > self._again.get(service.name, 0.0):
                self._again[service.name] = time.monotonic() + _AGAIN_S
                self._console.print(f"{service.name} ended with exit status {process.returncode} and is started again")
                self._running.remove((service, process))
                self.start(service)

    def wait_ready(self, waiting: Sequence[Service]) -> None:
        """Return when all of ``waiting`` are ready. Raises ServiceDiedError if one dies or takes too long."""
        started, left = time.monotonic(), list(waiting)
        while left:
            self.check()
            seconds = time.monotonic() - started
            for service in [service for service in left if service.is_ready()]:
                left.remove(service)
                self._console.print(f"{service.name:12} ready after {seconds:.0f} s")
            if left and seconds > _READY_S:
                raise ServiceDiedError(left[0], f"was not ready after {_READY_S:.0f} s")
            time.sleep(0.3)

    def bring_up(self, *batch: Service) -> None:
        """Start the services of ``batch`` at once and wait until they are ready."""
        names = ", ".join(service.name for service in batch)
        with self._console.status(f"starting {names} ...") as _:
            if not self._console.is_terminal:
                self._console.print(f"starting {names} ...")
            for service in batch:
                self.start(service)
            self.wait_ready(batch)

    def watch(self) -> NoReturn:
        """Wait until a service ends. Raises ServiceDiedError."""
        while True:
            self.check()
            time.sleep(0.5)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="MLflow, Prefect and the deployments.")
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument(
        "--cron", type=_cron, default=_DEFAULT_CRON, help="when the pipeline runs, in UTC (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _cron(text: str) -> str:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        return CronSchedule(cron=text).cron
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no cron schedule; one is {_DEFAULT_CRON!r}") from error


def _stop(*_: object) -> NoReturn:
    for number in _SIGNALS:  # a second Ctrl-C must not leave half of the servers running
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show(console: Console, options: argparse.Namespace) -> None:
    table = Table(title="postbc is being served on this machine only", show_header=False)
    prefect = f"http://127.0.0.1:{options.prefect_port}"
    table.add_row("Runs, approvals (Prefect)", prefect)
    table.add_row("Models (MLflow)", f"http://127.0.0.1:{options.mlflow_port}")
    table.add_row("Schedule", f"pipeline: {options.cron} (UTC)")
    table.add_row("Logs", ".work/serve/*.log")
    console.print(table)
    console.print(
        f"Start a run there (Deployments), or in another shell:\n"
        f"  export PREFECT_API_URL={prefect}/api\n"
        f"  .venv/bin/prefect deployment run pipeline/pipeline\n"
        f"  .venv/bin/prefect deployment run pipeline/finetune-robot   # waits for an approval\n"
        f"Ctrl-C stops everything.",
        soft_wrap=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; returns the exit status."""
    options = _options(arguments)
    console = Console(stderr=True, highlight=False, markup=False)
    try:
        require_free({"--mlflow-port": options.mlflow_port, "--prefect-port": options.prefect_port})
        mlflow, prefect, live, deployments = services(options.mlflow_port, options.prefect_port, options.cron)
        for number in _SIGNALS:
            signal.signal(number, _stop)
        with Supervisor(console) as supervisor:
            supervisor.bring_up(mlflow, prefect)
            supervisor.bring_up(live, deployments)
            _show(console, options)
            supervisor.watch()
    except KeyboardInterrupt:
        return 0
    except (ConfigError, ServiceDiedError) as error:
        console.print(f"error: {error}", soft_wrap=True)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
