"""The pools of scripted demonstrators: who succeeds how often, how long it takes, and how much they differ."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write
from postbc.progress import track
from postbc.sims import get_task
from postbc.sims.demonstrators.collect import Recipe, collect, default_task
from postbc.sims.demonstrators.recording import Episode
from postbc.sims.demonstrators.variety import variety

FRAMES = 200  # states at which operators are asked
TASKS = (
    "lift",
    "lift_wide",
    "can",
    "square",
    "fetch_pick_place",
    "metaworld/reach",
    "metaworld/push",
    "metaworld/pick-place",
    "metaworld/door-open",
    "metaworld/drawer-close",
    "metaworld/button-press-topdown",
    "metaworld/window-open",
    "metaworld/coffee-button",
    "metaworld/sweep-into",
    "metaworld/peg-insert-side",
    "metaworld/assembly",
    "so101_lift",
    "so101_lift_marked",
)


def attempts(recipe: Recipe, n: int) -> list[Episode]:
    """The first ``n`` attempts."""
    env = get_task(recipe.task.env).make()
    played = [recipe.attempt(env, k) for k in range(n)]
    env.close()
    return played


def seen(episodes: list[Episode], n: int) -> list[Mapping[str, np.ndarray]]:
    """``n`` frames, drawn from all of ``episodes``."""
    frames = [frame for episode in episodes for frame in episode.obs]
    return [frames[i] for i in np.random.default_rng(0).choice(len(frames), min(n, len(frames)), replace=False)]


def row(name: str, n: int) -> dict[str, Any]:
    """Everything about one task: ``n`` attempts of each operator, and time for 100 demonstrations of the pool."""
    config = default_task(name)
    people = sorted(get_task(name).operators())
    alone = {who: attempts(Recipe.of(config, [who]), n) for who in people}
    mixed = [alone[people[k % len(people)]][k // len(people)] for k in range(n * len(people))]
    lengths = [len(episode) for episode in mixed if episode.success]
    task, records = get_task(name), seen(mixed, FRAMES)
    pool, singles = variety(task, people, records), [variety(task, [who], records) for who in people]
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        collect(Recipe.of(config), Path(folder) / "demos.hdf5", 100, workers=2)
        spent = time.perf_counter() - begun
    return {
        "success": {who: float(np.mean([episode.success for episode in alone[who]])) for who in people},
        "steps": {"mean": float(np.mean(lengths)), "min": min(lengths), "max": max(lengths)},
        "pool": vars(pool),
        "alone": {
            "spread": float(np.mean([v.spread for v in singles])),
            "modes": float(np.mean([v.modes for v in singles])),
        },
        "seconds_for_100": spent,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=20, help="of each operator")
    parser.add_argument("--name", default="demonstrators", help="of the file in benchmarks/results")
    parser.add_argument("tasks", nargs="*", default=TASKS)
    options = parser.parse_args()
    rows = {name: row(name, options.attempts) for name in track(options.tasks, "tasks", len(options.tasks))}
    columns = ["task", "success", "worst operator", "steps", "spread pool / alone", "modes pool / alone", "100 demos"]
    table = Table(*columns, header_style="bold")
    for name, r in rows.items():
        worst = min(r["success"], key=r["success"].get)
        pool = r["pool"]
        table.add_row(
            name,
            f"{np.mean(list(r['success'].values())):.0%}",
            f"{worst} {r['success'][worst]:.0%}",
            f"{r['steps']['min']} to {r['steps']['max']}",
            f"{pool['spread']:.2f} / {r['alone']['spread']:.2f}",
            f"{pool['modes']:.2f} / {r['alone']['modes']:.2f}",
            f"{r['seconds_for_100']:.0f} s",
        )
    Console(width=130).print(table)
    print(write(options.name, ("mujoco", "robosuite", "metaworld", "gymnasium-robotics"), rows))  # noqa: T201


if __name__ == "__main__":
    main()
