"""What a posterior of many members costs: all at once against one by one, and how near that is to the machine's limit."""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

from benchmarks.record import write
from postbc.adam import AdamW
from postbc.posterior.ensemble import Ensemble

OBS, OUT = 19, 28  # Lift: state, and a chunk of 4 actions of 7 numbers
LAYERS, MEMBERS = 3, 100
SHAPES = ((64, 64), (64, 128), (128, 64), (128, 128), (256, 64))  # width, batch a member
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": torch.relu, "silu": F.silu, "mish": F.mish}


def seconds(work: Callable[[], object], repeats: int, warm: int = 3) -> float:
    """Median time of ``work``, warm."""
    for _ in range(warm):
        work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def product_rate(size: int = 1024) -> float:
    """Floating point operations a second of a large float32 matrix product: the most that training could reach."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: a @ b, 15)


def operations(width: int, batch: int) -> float:
    """Of one training step of one member: forward, and twice that backward."""
    sizes = [OBS, *[width] * LAYERS, OUT]
    return 3 * 2 * batch * sum(i * o for i, o in pairwise(sizes))


def step_of(members: int, width: int, batch: int) -> Callable[[], None]:
    """One training step of ``members`` stacked networks."""
    model = Ensemble({"state": OBS, "environment": 0}, OUT, members, width, LAYERS)
    optimiser = AdamW(model.parameters(), 1e-3)
    obs, target = torch.randn(members, batch, OBS), torch.randn(members, batch, OUT)
    return lambda: optimiser.minimise(F.mse_loss(model(obs), target, reduction="sum"))


def plain_step(width: int, batch: int) -> Callable[[], None]:
    """One training step of one ordinary network, as one would write it."""
    sizes = [OBS, *[width] * LAYERS, OUT]
    parts: list[nn.Module] = []
    for i, o in pairwise(sizes):
        parts += [nn.Linear(i, o), nn.ReLU()]
    model = nn.Sequential(*parts[:-1])
    optimiser = AdamW(model.parameters(), 1e-3)
    obs, target = torch.randn(batch, OBS), torch.randn(batch, OUT)
    return lambda: optimiser.minimise(F.mse_loss(model(obs), target))


def measure(repeats: int) -> dict[str, Any]:
    """Milliseconds of a training step of all members, both ways, and the share of the product rate reached."""
    rate, rows = product_rate(), {}
    for width, batch in SHAPES:
        stacked = seconds(step_of(MEMBERS, width, batch), repeats)
        single = MEMBERS * seconds(plain_step(width, batch), 20 * repeats)
        rows[f"{width} wide, batch {batch}"] = {
            "stacked_ms": 1e3 * stacked,
            "one_by_one_ms": 1e3 * single,
            "ratio": single / stacked,
            "share_of_product_rate": MEMBERS * operations(width, batch) / stacked / rate,
        }
    x = torch.randn(MEMBERS, 64, 64)
    activations = {name: 1e6 * seconds(lambda f=f: f(x), 10 * repeats) for name, f in ACTIVATIONS.items()}  # type: ignore[misc]
    return {"gflops_of_products": rate / 1e9, "steps": rows, "activation_us": activations, "members": MEMBERS}


def main() -> None:
    """Measure, print, write benchmarks/results/posterior.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    numbers = measure(parser.parse_args().repeats)
    table = Table(
        "100 members", "stacked (ms)", "one by one (ms)", "ratio", "share of product rate", header_style="bold"
    )
    for name, row in numbers["steps"].items():
        shares = f"{row['ratio']:.1f}", f"{100 * row['share_of_product_rate']:.0f} %"
        table.add_row(name, f"{row['stacked_ms']:.1f}", f"{row['one_by_one_ms']:.1f}", *shares)
    table.caption = f"products: {numbers['gflops_of_products']:.0f} GFLOP/s; " + ", ".join(
        f"{name} {us:.0f} µs" for name, us in numbers["activation_us"].items()
    )
    Console().print(table)
    Console().print(str(write("posterior", ("torch",), numbers)))


if __name__ == "__main__":
    main()
