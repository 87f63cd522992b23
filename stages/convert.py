"""Stage convert: the demonstration store into a LeRobotDataset v3."""

import argparse

from postbc.config import Config
from postbc.demos.convert import View, convert
from postbc.demos.store import episode_count, read_store
from postbc.sims import get_task
from stages import paths
from stages.running import arguments, run


def main(config: Config, _: argparse.Namespace) -> None:
    task = get_task(config.task.env)
    view = View(config.task.fps, config.task.instruction, task.see, task.images, task.features)
    convert(read_store(paths.DEMOS), episode_count(paths.DEMOS), paths.DATASET, view)


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
