"""``postbc watch``: runs in progress as live curves in MLflow."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path(".work/live")


def watch(
    every: Annotated[float, typer.Option(help="Seconds between looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Log what there is, and stop.")] = False,
    experiment: Annotated[str, typer.Option(help="The MLflow experiment that holds the runs.")] = "postbc-live",
) -> None:
    """Log training and finetuning to MLflow while they run (`make serve` does it for you); Ctrl-C ends it."""
    from postbc.compose import load_config
    from postbc.errors import RegistryError
    from postbc.tracking.client import resolve_uri, shown
    from postbc.tracking.live import Live

    uri = os.environ.get("MLFLOW_TRACKING_URI") or load_config().register.tracking_uri
    live = Live(FOLDER, resolve_uri(uri), experiment)
    typer.echo(f"{live.folder} → experiment {live.experiment} at {shown(live.uri)}")
    try:
        while True:
            try:
                rows = live.mirror()
                if rows:
                    typer.echo(f"{rows} rows")
            except (RegistryError, OSError, ValueError) as error:  # MLflow is busy, or a journal is just being replaced
                if once:
                    raise
                typer.echo(f"{shown(str(error))} Trying again.", err=True)
            if once:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
