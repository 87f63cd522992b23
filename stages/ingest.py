"""Stage ingest: recordings under data/ into the demonstration store."""

import argparse
from contextlib import closing
from functools import partial
from pathlib import Path

from postbc.config import Config
from postbc.demos.checks import Checker, Expected
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Drawing, Preparation
from postbc.demos.readers import find_sources
from postbc.errors import ConfigError
from postbc.observation import ObsShape
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


def environment(config: Config) -> ObsShape:
    """What the simulator shows. Raises ConfigError where it runs at another rate than it would be taken for."""
    task = get_task(config.task.env)
    if config.task.fps != task.fps:
        raise ConfigError(
            f"task.fps = {config.task.fps:g}, and {task.name} runs at {task.fps:g} Hz: an action would last another time than "
            "the demonstrated one. Record at that rate, or give the environment another."
        )
    with closing(task.make(**config.task.options)) as env:
        return env.shape


def main(config: Config, _: argparse.Namespace) -> None:
    task, settings = get_task(config.task.env), config.ingest
    drawing = Drawing(task.pixels, task.draw) if task.pixels and task.draw else None
    prepare = Preparation.of(settings, drawing, partial(task.require_fit, shape=environment(config)))
    sources = find_sources(recordings(config), settings.filter_key)
    simulator = task.describe(config.task.options)
    checker = Checker(
        Expected(config.task.fps, task.action_low, task.action_high, simulator, task.action_names), settings.allow
    )
    counts = ingest(sources, paths.DEMOS, checker, settings.max_episodes, prepare)
    write_json(paths.METRICS / "ingest.json", counts)
    log.info("%d episodes, %d steps", counts["episodes"], counts["steps"])


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
