"""Stage convert: the demonstration store into a LeRobotDataset v3."""

import argparse

from postbc.config import Config
from postbc.demos.convert import convert
from postbc.demos.store import read_store
from postbc.sims import get_task
from stages import paths
from stages.running import arguments, run


def main(config: Config, _: argparse.Namespace) -> None:
    observe = get_task(config.task.env).observe
    pairs = ((episode, observe(episode.obs)) for episode in read_store(paths.DEMOS))
    convert(pairs, paths.DATASET, config.task.fps, config.task.instruction)


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
