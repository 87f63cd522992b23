"""Stage convert: the demonstration store into a LeRobotDataset v3."""

import argparse
from collections.abc import Iterator

import numpy as np

from postbc.config import Config, TaskConfig
from postbc.demos.convert import convert
from postbc.demos.episode import Episode
from postbc.demos.store import read_store
from postbc.sims import get_task
from postbc.sims.provenance import refuse_other_simulator
from stages import paths
from stages.running import arguments, run


def pairs(config: TaskConfig) -> Iterator[tuple[Episode, tuple[np.ndarray, np.ndarray]]]:
    """Every episode with what the task observes of it. Raises MismatchError for another simulator's."""
    task, seen = get_task(config.env), set[str]()
    for episode in read_store(paths.DEMOS):
        recorded = str(episode.facts.get("env_args", "{}"))
        if recorded not in seen and not config.other_simulator:
            refuse_other_simulator(task, config.options, recorded, str(episode.facts["name"]))
            seen.add(recorded)
        yield episode, task.observe(episode.obs)


def main(config: Config, _: argparse.Namespace) -> None:
    convert(pairs(config.task), paths.DATASET, config.task.fps, config.task.instruction)


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
