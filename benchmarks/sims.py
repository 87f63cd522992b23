"""How fast tasks step: robosuite's own step, the compiled one, the physics alone; and environments side by side."""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write
from postbc.sims import get_task
from postbc.sims.speed import steps_per_second
from postbc.sims.stepping import Stepping
from postbc.sims.tasks import can, lift, square
from postbc.sims.tasks.panda import PandaEnv, Scene
from postbc.sims.vector import ChunkEnvs

SCENES = {"lift": lift.SCENE, "can": can.SCENE, "square": square.SCENE}
KINDS = ("lift", "metaworld/pick-place", "fetch_pick_place", "pusht", "reach", "so101_lift")
SIZES = (1, 2, 4, 8, 16)
CHUNK = 4


def physics_alone(env: PandaEnv, steps: int, repeats: int) -> float:
    """Control steps a second of MuJoCo itself: the substeps of each, under whatever control there is."""
    import mujoco

    sim, rates = env._simulation.sim, []
    for repeat in range(repeats):
        env.reset(seed=repeat)
        begun = time.perf_counter()
        for _ in range(steps):
            mujoco.mj_step(sim.model._model, sim.data._data, nstep=25)
        rates.append(steps / (time.perf_counter() - begun))
    return float(np.median(rates))


def side_by_side(envs: list[PandaEnv], steps: int, repeats: int) -> float:
    """Control steps a second of all environments together, each on a thread of its own."""
    rates = []
    for repeat in range(repeats):
        for env in envs:
            env.reset(seed=repeat)
        actions = np.random.default_rng(repeat).uniform(-1, 1, (steps, 7))

        def play(env: PandaEnv, actions: np.ndarray = actions) -> None:
            for action in actions:
                env.step(action)

        with ThreadPoolExecutor(len(envs)) as pool:
            begun = time.perf_counter()
            list(pool.map(play, envs))
            rates.append(len(envs) * steps / (time.perf_counter() - begun))
    return float(np.median(rates))


def controllers(scene: Scene, repeats: int) -> dict[str, float]:
    """Stock, compiled, physics alone, one thread and two."""
    stock, ours, second = (PandaEnv(scene, compiled=compiled) for compiled in (False, True, True))
    row = {"stock": 0.0, "ours": 0.0, "physics": 0.0, "two threads": 0.0, "one thread": 0.0}
    samples: dict[str, list[float]] = {key: [] for key in row}
    measure: dict[str, Callable[[], float]] = {
        "stock": partial(steps_per_second, stock, 50, 1),
        "ours": partial(steps_per_second, ours, 200, 1),
        "physics": partial(physics_alone, ours, 200, 1),
        "one thread": partial(side_by_side, [ours], 200, 1),
        "two threads": partial(side_by_side, [ours, second], 200, 1),
    }
    for _ in range(repeats):  # interleaved, so that a busy moment of the machine falls on all alike
        for key, function in measure.items():
            samples[key].append(function())
    return {key: float(np.median(values)) for key, values in samples.items()}


def vectors(name: str, repeats: int) -> dict[str, dict[int, float]]:
    """Control steps a second by way of stepping and number of environments, in chunks."""
    task = get_task(name)
    rows: dict[str, dict[int, float]] = {stepping.value: {} for stepping in Stepping}
    for stepping in Stepping:
        for size in SIZES:
            if size == 1 and stepping is not Stepping.SERIAL:
                continue
            vector = ChunkEnvs(task.make, CHUNK, task.horizon, stepping).vector(size)
            low, high = np.array(task.action_low), np.array(task.action_high)
            generator, rates = np.random.default_rng(0), []
            vector.reset(list(range(10_000)))
            rounds = max(10, 200 // (CHUNK * size))
            for repeat in range(repeats + 1):
                chunks = generator.uniform(low, high, (rounds, size, CHUNK, len(low)))
                begun = time.perf_counter()
                steps = sum(int(vector.step(chunk).steps.sum()) for chunk in chunks)
                if repeat:
                    rates.append(steps / (time.perf_counter() - begun))
            vector.close()
            rows[stepping.value][size] = float(np.median(rates))
    return rows


def show(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, header_style="bold")
    for row in rows:
        table.add_row(*(f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="medians are of this many")
    repeats = parser.parse_args().repeats
    alone = {name: controllers(scene, repeats) for name, scene in SCENES.items()}
    rows = [
        [
            n,
            r["stock"],
            r["ours"],
            r["physics"],
            f"{r['ours'] / r['stock']:.1f}",
            f"{r['two threads'] / r['one thread']:.2f}",
        ]
        for n, r in alone.items()
    ]
    columns = ["task", "stock", "ours", "physics alone", "ours / stock", "two threads / one"]
    show("control steps a second, one thread", columns, rows)
    together = {name: vectors(name, max(2, repeats // 2)) for name in KINDS}
    rows = [
        [n, way, *(speeds.get(size, "") for size in SIZES)]
        for n, ways in together.items()
        for way, speeds in ways.items()
    ]
    show("control steps a second, all environments together", ["task", "stepping", *map(str, SIZES)], rows)
    packages = ("mujoco", "robosuite", "metaworld", "gymnasium-robotics", "gym-pusht", "numba", "numpy")
    print(write("sims", packages, {"controllers": alone, "vectors": together}))  # noqa: T201


if __name__ == "__main__":
    main()
