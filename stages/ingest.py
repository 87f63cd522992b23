"""Stage ingest: recordings under data/ into the demonstration store."""

import argparse
from pathlib import Path

from postbc.config import Config
from postbc.demos.checks import Checker, Expected
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Drawing, Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import listed_segments, open_segment
from postbc.errors import DataError
from postbc.sims import get_task
from postbc.storage.atomic import write_json
from stages import paths
from stages.running import arguments, log, run


def recordings(config: Config) -> Path:
    """Where they lie; a warning says so where DVC does not look."""
    source, watched = Path(config.ingest.source), Path("data", config.task.name)
    if not source.absolute().is_relative_to(watched.absolute()):
        message = "ingest.source: DVC watches %s/ and not %s; after a change there run `dvc repro -f -s ingest`"
        log.warning(message, watched, source)
    return source


def refuse_other_images(config: Config) -> None:
    """Raise DataError where a policy would learn from images of another size than the simulator shows it."""
    task = get_task(config.task.env)
    arrays, _ = open_segment(paths.DEMOS / listed_segments(paths.DEMOS)[0])
    key = f"obs/{task.pixels}"
    if key not in arrays:
        return
    env = task.make(**config.task.options)
    shown, size = env.shape.pixels, arrays[key].shape[1:]
    env.close()
    if shown and (*shown[1:], shown[0]) != size:
        raise DataError(
            f"{task.pixels} is {size[0]} x {size[1]} pixels of {size[2]}, {task.name} shows {shown[1]} x {shown[2]} of "
            f"{shown[0]}: ingest.image_size: [{shown[1]}, {shown[2]}] scales recordings to that."
        )


def main(config: Config, _: argparse.Namespace) -> None:
    task, settings = get_task(config.task.env), config.ingest
    drawing = Drawing(task.pixels, task.draw) if task.pixels and task.draw else None
    prepare = Preparation.of(settings, drawing, task.see)
    sources = find_sources(recordings(config), settings.filter_key)
    simulator = task.describe(config.task.options)
    checker = Checker(Expected(config.task.fps, task.action_low, task.action_high, simulator), settings.allow)
    counts = ingest(sources, paths.DEMOS, checker, settings.max_episodes, prepare)
    refuse_other_images(config)
    write_json(paths.METRICS / "ingest.json", counts)
    log.info("%d episodes, %d steps", counts["episodes"], counts["steps"])


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
