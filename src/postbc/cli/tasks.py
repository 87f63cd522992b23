"""``postbc tasks`` and ``postbc collect``: what there is to do, and scripted people who show it."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postbc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from postbc.config import TaskConfig


def _row(name: str, speed: bool) -> dict[str, Any]:
    from postbc.sims import get_task
    from postbc.sims.speed import steps_per_second

    try:
        task = get_task(name)
    except ConfigError as error:
        return {"task": name, "missing": str(error)}
    env = task.make()
    row = {
        "task": name,
        "state": env.shape.state,
        "environment": env.shape.environment,
        "action": len(task.action_low),
        "rate": task.fps,
        "horizon": task.horizon,
        "success": task.success,
        "demonstrators": sorted(task.operators()),
    }
    if speed:
        row["steps_per_second"] = round(steps_per_second(env, 100, 3))
    env.close()
    return row


def list_tasks(
    names: Annotated[list[str] | None, typer.Argument(metavar="[TASK]...", help="Default: all.")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Measure control steps a second here, on one core.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """List the tasks: sizes of observation and action, control rate, time limit, success, demonstrators, speed."""
    from postbc.progress import track
    from postbc.sims import TASKS

    wanted = names or list(TASKS)
    rows = [_row(name, speed) for name in track(wanted, "tasks", len(wanted))]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ["task", "state", "env.", "action", "rate (Hz)", "limit", "success", "demonstrators"]
    table = Table(*columns, *(["steps/s"] if speed else []), header_style="bold")
    for row in rows:
        if "missing" in row:
            table.add_row(row["task"], *[""] * 5, row["missing"])
            continue
        people = ", ".join(row["demonstrators"]) or "none: record people"
        sizes = [str(row[key]) for key in ("state", "environment", "action", "rate", "horizon")]
        fast = [str(row["steps_per_second"])] if speed else []
        table.add_row(row["task"], *sizes, row["success"], people, *fast)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def collect(  # noqa: PLR0913 - a command's options
    out: Annotated[Path, typer.Argument(help="HDF5 file to write, for instance data/lift/demos.hdf5.")],
    task: Annotated[str | None, typer.Option(help="A task or a preset; default: the task of params.yaml.")] = None,
    episodes: Annotated[int, typer.Option(help="Successful demonstrations to keep.")] = 20,
    operators: Annotated[str | None, typer.Option(help="Comma-separated names; default: the whole pool.")] = None,
    seed: Annotated[int, typer.Option(help="Sets of every size are prefixes of one seed's sequence.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor on every operator's imperfection; 0 is flawless.")] = 1.0,
    workers: Annotated[int, typer.Option(help="Processes; the file is the same whatever their number.")] = 1,
    videos: Annotated[int, typer.Option(help="Operators of whom to film one demonstration each, in .work/videos.")] = 0,
    force: Annotated[bool, typer.Option(help="Replace a file that was not collected.")] = False,
) -> None:
    """Let scripted operators demonstrate a task, and write a robomimic HDF5 file; goes on where it was killed.

    A file that was collected before is replaced, one of anything else only with --force.
    Afterwards: `dvc add data`, then `dvc repro`.
    """
    from postbc.compose import load_config, load_preset
    from postbc.sims.demonstrators.collect import Recipe, default_task
    from postbc.sims.demonstrators.collect import collect as run
    from postbc.sims.demonstrators.recording import is_collection

    if out.exists() and not (force or is_collection(out)):
        raise DataError(f"{out} is there, and not all of it was collected; --force replaces it.")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    wanted = load_config().task if task is None else load_preset(task) or default_task(task)
    names = operators.split(",") if operators else None
    tally = run(Recipe.of(wanted, names, seed, scale), out, episodes, workers)
    for name, attempts in sorted(tally.attempts.items()):
        typer.echo(f"{name:12s} {tally.successes[name]:4d} of {attempts} attempts kept")
    if videos:
        _film(wanted, out, videos)
    typer.echo(f"{out}: {len(tally.lengths)} episodes of {min(tally.lengths)} to {max(tally.lengths)} steps")


def _film(task: "TaskConfig", recording: Path, number: int) -> None:
    from postbc.evaluation.video import film_demonstrations
    from postbc.sims import get_task

    env, folder = get_task(task.env).make(**task.options), Path(".work/videos", task.name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in film_demonstrations(env, recording, number, folder):
        typer.echo(str(path))
    env.close()
