"""``postbc export``: the demonstration store as a file for other software."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    target: Annotated[Path, typer.Argument(help="robomimic file (.hdf5) or LeRobotDataset (a folder) to write.")],
    store: Annotated[Path, typer.Option(help="Demonstration store.")] = Path("artifacts/demos"),
    video: Annotated[
        bool, typer.Option(help="Of a LeRobotDataset: images as video, which is small and loses a little.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Write the stored demonstrations, those of the robot too, as robomimic HDF5 or as the task's LeRobotDataset v3."""
    from postbc.demos.convert import View, convert
    from postbc.demos.export import export as write
    from postbc.demos.readers.robomimic import SUFFIXES
    from postbc.demos.store import episode_count, rates, read_store
    from postbc.errors import DataError
    from postbc.progress import track

    if target.exists() and not force:
        raise DataError(f"{target} is there already; --force replaces it.")
    count = episode_count(store)
    if target.suffix in SUFFIXES:
        write(track(read_store(store), "export", count), target)
    else:
        from postbc.compose import load_config
        from postbc.sims import get_task

        config = load_config().task
        if rates(store) - {config.fps}:
            held = " and ".join(f"{rate:g}" for rate in sorted(rates(store)))
            raise DataError(
                f"{store} holds {held} steps a second, {config.name} of params.yaml has {config.fps}: name its own "
                "task there, or write an .hdf5 file, which needs none."
            )
        task = get_task(config.env)
        view = View(config.fps, config.instruction, task.see, task.images, task.features)
        convert(read_store(store), count, target, view, video)
    typer.echo(f"{target}: {count} episodes")
