"""A learner in a process of its own: gradient steps never delay whoever acts.

The acting side has a copy of the learner that only chooses actions. It tells the learning side what was played and how much
to learn from it, and takes over the weights of the other as a whole, between two choices. Where time stands still meanwhile
(``waits`` false) it waits for every gradient step, so that a run is the same every time.
"""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from postbc.config import DppoConfig, FinetuneConfig
from postbc.errors import LearnerLostError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import POLICY, continue_from
from postbc.finetune.experience import ARRAYS
from postbc.finetune.learner import Learner
from postbc.policies.folder import load_policy
from postbc.policies.policy import Policy
from postbc.processes import Arrays, Child, receive, send, served
from postbc.progress import Track
from postbc.sims.vector import Transition
from postbc.storage.checkpoint import Nested, flatten, unflatten
from postbc.training import Metrics

MODULE = "postbc.finetune.remote"
NICENESS = 5  # of the learning process: acting goes first
GLANCE = 0.1  # seconds between two looks at how far it is
OWED = "chunks_owed"  # of a state: what was played and not yet learned from


def start_learner(finetuned: Path, config: FinetuneConfig, seed: int, replay: bool, dense: bool = False) -> Learner:
    """The learner that goes on from a finetuned folder, and with its ``replay``; of a task that is ``dense`` in simulation."""
    learner = build_learner(load_policy(finetuned / POLICY).model, config, seed, dense)
    continue_from(learner, finetuned, replay)
    return learner


def _arrays(tree: Nested) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tensors, values = flatten(tree)
    return values, {name: tensor.numpy() for name, tensor in tensors.items()}


def _tree(values: dict[str, Any], arrays: Arrays) -> Nested:
    return unflatten({**values, **{name: torch.from_numpy(array) for name, array in arrays.items()}})


class RemoteLearner(Learner):
    """What the driver sees: goes on from the ``finetuned`` folder. Raises LearnerLostError when the other side is gone."""

    def __init__(
        self, finetuned: Path, config: FinetuneConfig, seed: int, waits: bool, replay: bool = False, dense: bool = False
    ) -> None:
        self.acting = start_learner(finetuned, config, seed, False, dense)
        self.config, self.model, self.critics = config, self.acting.model, self.acting.critics
        self.modules, self.generators = self.acting.modules, self.acting.generators
        self.explores_first, self.overlaps = self.acting.explores_first, self.acting.overlaps
        self.waits = (
            waits and self.overlaps
        )  # a rollout is of one policy, so that the next one waits for what was learned
        self.behind = 0.0  # chunks that the other side has still to learn from
        self._metrics: Metrics | None = None
        self._asked = False
        self.child = Child(MODULE)
        self._send("make", str(finetuned.resolve()), asdict(config), seed, replay, dense)

    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B H A"]]:
        """What the copy on this side chooses."""
        return self.acting.act(obs, exploring)

    def store(self, obs: Float[Tensor, "B O"], choice: Float[Tensor, "B C"], step: Transition) -> None:
        """Hand it over."""
        played = {f"step.{name}": np.asarray(getattr(step, name)) for name in ARRAYS}
        self._send("store", **{"obs": obs.numpy(), "choice": choice.numpy(), **played})

    def cut(self) -> None:
        """Hand it over."""
        self._send("cut")

    def learn(self, chunks: float) -> Metrics | None:
        """Ask for as much learning as ``chunks`` are worth, and take over the newest weights that there are."""
        self._send("learn", chunks)
        self._ask(settle=not self.waits)
        if not self.waits or self._there():
            self._take()
        return self._told()

    def settle(self) -> Metrics | None:
        """Wait until everything has been learned, and take over the result; metrics of the last gradient step not told yet."""
        if self._asked:  # of a moment before the last was handed over
            self._take()
        self._look()
        with Track("learn", round(self.behind)) as bar:
            while self.behind > 0:
                time.sleep(GLANCE)
                before = self.behind
                self._look()
                bar.advance(round(before) - round(self.behind))
        return self._told()

    def policy(self) -> Policy:
        """As far as this side knows."""
        return self.acting.policy()

    def load(self, weights: Nested) -> None:
        """On both sides."""
        self.acting.load(weights)
        values, arrays = _arrays(weights)
        self._send("load", values, **arrays)

    def experience(self) -> Nested:
        """The other side's."""
        found: Nested = self.state()["learning"].get("replay", {})
        return found

    def state(self) -> Nested:
        """What the other side knows, and the random states of acting."""
        if self._asked:
            self._take()
        self._send("state")
        values, arrays = self._receive()
        return {"learning": _tree(values, arrays), "acting": self.acting.generators.state()}

    def restore(self, state: Nested) -> None:
        """Put back what :meth:`state` returned."""
        values, arrays = _arrays(state["learning"])
        self._send("restore", values, **arrays)
        self.acting.load(state["learning"]["modules"])
        self.acting.generators.restore(state["acting"])

    def close(self) -> None:
        """End the other side; what it had not learned yet is lost to it."""
        self.child.kill()

    def _look(self) -> None:
        """Take over the weights of this moment."""
        self._ask(settle=False)
        self._take()

    def _ask(self, settle: bool) -> None:
        if not self._asked:
            self._send("weights", settle)
            self._asked = True

    def _there(self) -> bool:
        with self._guarded():
            return self.child.pipe.poll(0)

    def _take(self) -> None:
        values, arrays = self._receive()
        self.behind, metrics = values.pop("behind"), values.pop("metrics")
        self._metrics = metrics or self._metrics
        self.acting.load(_tree(values, arrays))
        self._asked = False

    def _told(self) -> Metrics | None:
        metrics, self._metrics = self._metrics, None
        return metrics

    def _send(self, name: str, *arguments: Any, **arrays: np.ndarray) -> None:
        with self._guarded():
            send(self.child.pipe, [name, *arguments], arrays)

    def _receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        with self._guarded():
            return receive(self.child.pipe)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise LearnerLostError(
                "the learning process is gone; its last lines stand above. What was played is kept: run it again."
            ) from error


class _Learning:
    """The other side."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.owed, self.metrics = pipe, 0.0, Metrics()
        self._settling = False
        # Answers leave by a thread of their own: both sides may be sending more than a pipe holds.
        self._answers = ThreadPoolExecutor(1, "answers")

    def run(self) -> None:
        """Learn what is owed, and listen between gradient steps."""
        while True:
            if self.owed <= 0 or (self.pipe.poll(0) and not self._settling):
                self._hear(*receive(self.pipe))
                continue
            # At most one gradient step; a power of two, so that no rounding makes it learn other than in one process.
            chunks = min(2.0 ** -math.frexp(self.learner.config.updates_per_chunk)[1], self.owed)
            self.metrics = self.learner.learn(chunks) or self.metrics
            self.owed -= chunks
            if self._settling and self.owed <= 0:
                self._settling = False
                self._weights()

    def _hear(self, request: list[Any], arrays: dict[str, np.ndarray]) -> None:
        name, *arguments = request
        if name == "make":
            folder, config, seed, replay, dense = arguments
            settings = FinetuneConfig(**{**config, "dppo": DppoConfig(**config["dppo"])})
            self.learner = start_learner(Path(folder), settings, seed, replay, dense)
        elif name == "store":
            obs, choice = (torch.from_numpy(arrays.pop(part)) for part in ("obs", "choice"))
            played: dict[str, Any] = {k.removeprefix("step."): v for k, v in arrays.items()}
            self.learner.store(obs, choice, Transition(**played))
        elif name == "cut":
            self.learner.cut()
        elif name == "learn":
            self.owed += arguments[0]
        elif name == "weights":
            self._settling = bool(arguments[0]) and self.owed > 0
            if not self._settling:
                self._weights()
        elif name == "state":
            self._answer({**self.learner.state(), OWED: self.owed})
        elif name == "load":
            self.learner.load(_tree(arguments[0], arrays))
        elif name == "restore":
            state = _tree(arguments[0], arrays)
            self.owed = float(state.pop(OWED))
            self.learner.restore(state)

    def _weights(self) -> None:
        values, arrays = _arrays(self.learner.weights())
        told = {**values, "behind": self.owed, "metrics": self.metrics}
        self.metrics = Metrics()
        self._answers.submit(send, self.pipe, told, arrays)

    def _answer(self, tree: Nested) -> None:
        values, arrays = _arrays(tree)
        self._answers.submit(send, self.pipe, values, arrays)


def serve(pipe: Connection) -> None:
    """Learn for whoever has the other end of ``pipe``."""
    os.nice(NICENESS)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))  # a core is left to acting
    _Learning(pipe).run()


if __name__ == "__main__":
    served(serve)
