"""Stage convert: the demonstration store into a LeRobotDataset v3."""

import argparse
from collections.abc import Iterator

from postbc.config import Config, TaskConfig
from postbc.demos.convert import Columns, columns, convert
from postbc.demos.store import episode_count, read_store
from postbc.sims import get_task
from stages import paths
from stages.running import arguments, run


def stored(config: TaskConfig) -> Iterator[Columns]:
    """What the task observes of every episode."""
    task = get_task(config.env)
    for episode in read_store(paths.DEMOS):
        yield columns(episode, *task.observe(episode.obs), task.images(episode.obs))


def main(config: Config, _: argparse.Namespace) -> None:
    task = config.task
    convert(stored(task), episode_count(paths.DEMOS), paths.DATASET, task.fps, task.instruction)


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
