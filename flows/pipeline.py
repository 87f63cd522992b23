"""The pipeline as a Prefect flow, generated from dvc.yaml: ``python -m flows.pipeline [--target STAGE ...]``.

Exit status: 0 if all stages are up to date now, 1 if one failed, 2 if the command or dvc.yaml is wrong.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from prefect import flow
from prefect.states import Completed, Failed, State

from flows import graph
from flows.gate import NotApprovedError, approved
from flows.stage import StageFailedError, as_task
from postbc.errors import PostbcError


@flow(name="pipeline", log_prints=False, persist_result=False)
def pipeline(targets: list[str] | None = None, force: bool = False) -> State:
    """Bring the targets (all stages, if none are named) and what they need up to date.

    Args:
        targets: names of DVC stages; ``pretrain`` stands for ``pretrain@bc`` and its siblings.
        force: run stages even if they are up to date.
    """
    stages = graph.load(Path(), targets or ())
    cached = 0
    for stage in stages:
        try:
            with approved(stage, force):
                state = as_task(stage)(stage, force, return_state=True)
        except (NotApprovedError, PostbcError, StageFailedError) as error:
            return Failed(message=str(error))
        if not state.is_completed():
            return Failed(message=state.message or f"Stage {stage.address} ended as {state.name}")
        cached += state.name == "Cached"
    return Completed(message=f"{len(stages) - cached} stages run, {cached} up to date")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the stages of dvc.yaml.")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="STAGE",
        help="only this stage and what it needs; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="run stages even if they are up to date")
    options = parser.parse_args(arguments)
    try:
        graph.load(Path(), options.target)  # the user's mistakes, before a server is started for them
    except PostbcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background jobs inherit it ignored
        signal.signal(number, _interrupt)
    try:
        state = pipeline(options.target or None, options.force, return_state=True)
    except KeyboardInterrupt:
        print("Interrupted; the running stage was stopped.", file=sys.stderr)
        return 1
    print(f"{state.name}: {state.message or ''}", file=sys.stderr)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
