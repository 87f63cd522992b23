"""One DVC stage as a Prefect task."""

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Timer
from typing import Any

from prefect import Task, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.environment import child_environment
from flows.graph import Stage
from flows.processes import leashed, let_go

GRACE_S = 45.0  # for a stage to end: a robot's process takes up to robots.keeper.ENDING to reach its safe state
TAIL = 20  # lines of output in the message of a failure
_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")


class StageFailedError(RuntimeError):
    """A stage's command failed; the message ends with the last lines of its output."""

    def __init__(self, address: str, what: str, tail: Sequence[str]) -> None:
        """``what`` happened; ``tail``: the last lines of output."""
        last = "\n".join(tail) or "(no output)"
        super().__init__(f"Stage {address} {what}. Its last lines:\n{last}")
        self.address, self.what = address, what

    def __repr__(self) -> str:
        """Without the output, which the log already holds."""
        return f"{type(self).__name__}({self.address} {self.what})"


def as_task(stage: Stage) -> Task[..., Any]:
    """The Prefect task of ``stage``, named like it. DVC caches, so Prefect must not."""
    return task(
        run,
        name=stage.address,
        task_run_name=stage.address,
        retries=stage.retries,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def run(stage: Stage, force: bool = False) -> State:
    """Reproduce ``stage`` and send its output, line by line, to the run's log; returns the task run's state.

    Raises StageFailedError if it fails and is to be tried again. When this call is interrupted, the stage and
    all it started is ended.
    """
    try:
        cached = reproduce(stage, get_run_logger().info, force)
    except StageFailedError as error:
        if (runtime.task_run.run_count or 1) <= stage.retries:
            raise
        return Failed(message=str(error))  # raised, Prefect would log the stage's lines three more times
    return Completed(name="Cached", message="DVC: nothing to do") if cached else Completed()


def reproduce(stage: Stage, say: Callable[[str], Any], force: bool = False) -> bool:
    """Run ``dvc repro`` for ``stage`` alone; True if DVC had no need to run it. Raises StageFailedError."""
    command = [*_DVC, "repro", "--single-item", *(["--force"] if force else []), stage.address]
    # DVC's words for a stage that is up to date, and for one whose results come from its run cache
    unchanged = (f"Stage '{stage.address}' didn't change", f"Stage '{stage.address}' is cached - skipping run")
    cached, tail = False, deque[str](maxlen=TAIL)
    with (
        leashed(command, child_environment(), grace_s=GRACE_S) as process,
        _time_limit(process, stage.timeout) as expired,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe by default
        for line in filter(None, map(str.rstrip, process.stdout)):
            say(line)
            tail.append(line)
            cached = cached or line.startswith(unchanged)
        status = process.wait()
    if expired.is_set():
        raise StageFailedError(stage.address, f"was stopped after its time limit of {stage.timeout:g} s", tail)
    if status != 0:
        raise StageFailedError(stage.address, f"failed with exit status {status}", tail)
    return cached


@contextmanager
def _time_limit(process: subprocess.Popen[str], seconds: float | None) -> Iterator[Event]:
    """End ``process`` after ``seconds``; the event tells whether that happened.

    Prefect's own limit of a task is an alarm signal, which any library may take away and no other thread hears.
    """
    expired = Event()

    def expire() -> None:
        expired.set()
        let_go(process)

    timer = Timer(seconds or 0, expire)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def is_up_to_date(address: str, root: Path | None = None) -> bool:
    """Whether DVC has nothing to do for the stage at ``address``; its predecessors have run by now."""
    command = [*_DVC, "status", "--json", address]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=root, check=False)
    if done.returncode != 0:
        raise StageFailedError(address, f"has no status (exit {done.returncode})", done.stderr.splitlines()[-TAIL:])
    return not json.loads(done.stdout)
