"""``postbc export``: the demonstration store as a file for other software."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    target: Annotated[Path, typer.Argument(help="robomimic HDF5 file to write.")],
    store: Annotated[Path, typer.Option(help="Demonstration store.")] = Path("artifacts/demos"),
    force: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
) -> None:
    """Write the stored demonstrations, those of the robot too, as robomimic HDF5."""
    from postbc.demos.export import export as write
    from postbc.demos.store import episode_count, read_store
    from postbc.errors import DataError
    from postbc.progress import track

    if target.exists() and not force:
        raise DataError(f"{target} is there already; --force replaces it.")
    count = write(track(read_store(store), "export", episode_count(store)), target)
    typer.echo(f"{target}: {count} episodes")
