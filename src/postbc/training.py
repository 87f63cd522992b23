"""The one loop of supervised training: resumable, and the same run from the same seed.

Every source of randomness is a named generator of its own, so that two runs which differ in one of them (BC and PostBC
in the posterior noise) still see the same batches in the same order.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from postbc.adam import AdamW
from postbc.compute import Compute
from postbc.errors import TrainingDivergedError
from postbc.progress import Track
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.journal import Journal

Metrics = dict[str, float]
RANK = 100  # between the seeds of processes: more than there are names


class Generators:
    """Named random generators, seeded from one seed; their states are part of a checkpoint.

    Processes that train together have other numbers each (``rank``), but agree on :meth:`seed`.
    """

    def __init__(self, seed: int, names: Iterable[str], rank: int = 0) -> None:
        self._all = {name: torch.Generator() for name in names}
        self._seeds = {name: seed * 1000 + number for number, name in enumerate(self._all)}
        for name, generator in self._all.items():
            generator.manual_seed(self._seeds[name] + rank * RANK)

    def seed(self, name: str) -> int:
        """What the generator ``name`` was seeded with, in the first process."""
        return self._seeds[name]

    def __getitem__(self, name: str) -> torch.Generator:
        return self._all[name]

    def state(self) -> dict[str, Tensor]:
        """The states, by name."""
        return {name: generator.get_state() for name, generator in self._all.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` returned."""
        for name, generator in self._all.items():
            generator.set_state(state[name])


class Ema:
    """Exponential moving average of a module's parameters.

    It forgets faster at first, so that little of the random initial weights is left even after a short training.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live: list[Tensor] = list(module.parameters())
        self.average = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the parameters after ``step``, counted from 0."""
        torch._foreach_lerp_(self.average, self._live, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let the module carry the average for a while, and then what it carried before, to the last bit."""
        live = [p.detach().clone() for p in self._live]
        self.copy_to_module()
        yield
        with torch.no_grad():
            torch._foreach_copy_(self._live, live)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Let the module carry the average from now on."""
        for live, average in zip(self._live, self.average, strict=True):
            live.copy_(average)


@dataclass(frozen=True)
class Schedule:
    """Length and step size: linear warm-up over 2 %, then a cosine down to a tenth."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    checkpoint_every: int = 500
    clip: float = math.inf  # largest norm of the gradient

    def rate(self, step: int) -> float:
        """Learning rate at ``step``."""
        warmup = max(1, self.steps // 50)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / self.steps)
        return self.learning_rate * min(1.0, (step + 1) / warmup) * cosine


@dataclass(frozen=True)
class Run:
    """What makes one training run: its label, schedule, randomness and where it may be continued from."""

    label: str
    schedule: Schedule
    generators: Generators
    checkpoints: Checkpoints
    compute: Compute = field(default_factory=Compute)
    journal: Journal = field(default_factory=Journal)


def train(
    run: Run,
    module: nn.Module,
    loss: Callable[[], tuple[Tensor, Metrics]],
    ema: Ema | None = None,
    validate: Callable[[], Metrics] = dict,
) -> list[Metrics]:
    """Minimise ``loss()`` over the parameters of ``module``; goes on from the run's checkpoint when it has one.

    Returns a row of metrics for every hundredth of the way, with what ``validate`` says then. Raises TrainingDivergedError
    where a loss reported there, or what a checkpoint would hold, is not finite; the last checkpoint is kept.
    """
    trained = (parameter for parameter in module.parameters() if parameter.requires_grad)
    schedule, compute = run.schedule, run.compute
    optimiser = AdamW(trained, schedule.learning_rate, schedule.weight_decay, schedule.clip, compute.average)
    start, rows = _resume(run, module, optimiser, ema)
    if compute.main:
        run.journal.begin(rows)
    every = max(1, run.schedule.steps // 100)
    with Track(run.label, run.schedule.steps) as bar:
        bar.advance(start)
        for step in range(start, run.schedule.steps):
            if step > start and step % run.schedule.checkpoint_every == 0:
                weights = torch.stack([parameter.detach().sum() for parameter in module.parameters()])
                _check(weights.sum(), f"{run.label} step {step}")
                _save(run, module, optimiser, (step, rows), ema)
            with compute.autocast():
                value, metrics = loss()
            optimiser.rate = run.schedule.rate(step)
            optimiser.minimise(value)
            if ema:
                ema.update(step)
            if step % every == 0 or step + 1 == run.schedule.steps:
                _check(value.detach(), f"{run.label} step {step}")
                rows.append({"step": step, "loss": float(value.detach()), **metrics, **validate()})
                if compute.main:
                    run.journal.add(rows[-1])
            bar.advance(1, f"loss {rows[-1]['loss']:.4f}")
    if compute.main:
        run.journal.end()
    if ema:
        ema.copy_to_module()
    return rows


def _check(value: Tensor, where: str) -> None:
    if not torch.isfinite(value):
        raise TrainingDivergedError(
            f"{where}: training diverged ({float(value)}). Lower the learning rate in params.yaml."
        )


def _save(run: Run, module: nn.Module, optimiser: AdamW, at: tuple[int, list[Metrics]], ema: Ema | None) -> None:
    state = {
        "step": at[0],
        "rows": at[1],
        "module": dict(module.state_dict()),
        "optimiser": optimiser.state(),
        "generators": dict(enumerate(run.compute.gather(run.generators.state()))),
        "ema": dict(enumerate(ema.average)) if ema else {},
    }
    if run.compute.main:
        run.checkpoints.save(state)


def _resume(run: Run, module: nn.Module, optimiser: AdamW, ema: Ema | None) -> tuple[int, list[Metrics]]:
    state = run.checkpoints.load()
    if state is None:
        return 0, []
    module.load_state_dict(state["module"])
    optimiser.restore(state["optimiser"])
    run.generators.restore(state["generators"][run.compute.rank])
    for number, average in enumerate(ema.average if ema else []):
        average.copy_(state["ema"][number])
    return int(state["step"]), list(state["rows"])
