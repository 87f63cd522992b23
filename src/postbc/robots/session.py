"""A session on one robot as a vector of one environment: chunks are executed at a fixed rate while the next one is planned.

A thread of its own keeps the control period; whoever drives the vector only hands over chunks. A chunk that is planned at
control step t takes over at step t + lead with its action number lead, and the next one is planned at t + execute, so that
with a lead the arm does not wait for inference. Where no chunk has come in time (on the wall's clock alone), the old one is
gone on with, then its last action is kept; that is counted.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from postbc.config import TaskConfig
from postbc.config.robot import RobotConfig
from postbc.errors import ConfigError, RobotError
from postbc.observation import History
from postbc.robots.environment import RobotEnv
from postbc.sims.vector import NO_SEED, Transition

LEAVING = 10.0  # seconds in which the control thread ends
PATIENCE = 0.5  # share of the control period that is waited for a plan


@dataclass(frozen=True)
class Pace:
    """How chunks of ``chunk`` actions follow each other, in control steps."""

    chunk: int
    lead: int
    execute: int
    max_steps: int

    @classmethod
    def of(cls, config: RobotConfig, task: TaskConfig) -> "Pace":
        """Raises ConfigError where a chunk is too short for what is asked of it."""
        execute = task.chunk - config.lead if config.execute is None else config.execute
        if not max(1, config.lead) <= execute <= task.chunk - config.lead:
            raise ConfigError(
                f"finetune_robot.robot: execute = {execute}, lead = {config.lead} do not fit into task.chunk = {task.chunk}: "
                "expected lead <= execute <= chunk - lead."
            )
        return cls(task.chunk, config.lead, execute, task.max_steps)


@dataclass
class _Span:
    """What happened between two moments of planning."""

    reward: float = 0.0
    steps: int = 0
    success: bool = False
    terminated: bool = False
    truncated: bool = False
    intervened: bool = False
    own: int = 0  # steps of the plan that was asked for at its start

    def add(self, reward: float, discount: float, info: dict[str, Any]) -> None:
        """One control step more."""
        self.reward += discount**self.steps * reward
        self.steps, self.success = self.steps + 1, bool(info["is_success"])
        self.intervened |= bool(info.get("intervened", False))

    def succeed(self, discount: float) -> None:
        """The last step turned out to have led to success."""
        self.reward += discount ** max(0, self.steps - 1)
        self.success, self.terminated, self.truncated = True, True, False


@dataclass(frozen=True)
class _Report:
    """From the control thread: the row (O,) to plan from, and what happened since the last one."""

    row: Float32[ndarray, "O"]
    span: _Span


class RobotVector:
    """Like :class:`~postbc.sims.vector.ChunkVector` with n = 1; episodes cannot be restored."""

    n = 1

    def __init__(self, env: RobotEnv, pace: Pace, history: int, discount: float) -> None:
        self.env, self.pace, self.discount = env, pace, discount
        self._history = History(history)
        self.playing = np.array([NO_SEED])
        self._starts: Iterator[int] = iter(())
        self._used = 0
        self._orders: queue.Queue[int | None] = queue.Queue()
        self._plans: queue.Queue[ndarray | None] = queue.Queue()
        self._reports: queue.Queue[_Report | BaseException] = queue.Queue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._control, name="control", daemon=True)
        self._thread.start()

    # The driver's side.

    def reset(self, starts: Sequence[int]) -> Float32[ndarray, "1 O"]:
        """Begin episodes from ``starts``, one after the other; the first observation, once the scene is ready."""
        self._starts, self._used = iter(starts), 0
        return self._begin()

    def _begin(self) -> Float32[ndarray, "1 O"]:
        seed = next(self._starts, NO_SEED)
        if seed == NO_SEED:
            raise ConfigError(f"all {self._used} starts are used up.")
        self._used, self.playing = self._used + 1, np.array([seed])
        self._orders.put(seed)
        return self._report().row[None]

    @property
    def used(self) -> int:
        """How many of the starts have been begun."""
        return self._used

    def begin(self, chunks: Float[ndarray, "1 H A"]) -> None:
        """Hand over the chunk that was planned from the last observation."""
        self._plans.put(np.array(chunks[0]))

    def finish(self) -> Transition:
        """Wait until the next chunk is to be planned, or the episode is over."""
        report, seed = self._report(), self.playing
        span, row = report.span, report.row[None]
        flags = {name: np.array([getattr(span, name)]) for name in ("terminated", "truncated", "success", "steps")}
        best = np.array([float(span.success)])
        return Transition(row, row, np.array([span.reward]), best=best, seed=seed, intervened=span.intervened, **flags)

    def ready(self, step: Transition) -> Float32[ndarray, "1 O"]:
        """The observation to act on after ``step``; where the episode is over that of the next, once the scene is reset."""
        over = bool(step.terminated[0] or step.truncated[0])
        return self._begin() if over else step.obs

    def _report(self) -> _Report:
        found = self._reports.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def save(self) -> dict[str, Any]:
        """Nothing: a robot can not go back."""
        return {}

    def restore(self, starts: Sequence[int], saved: dict[str, Any]) -> ndarray:
        """Raises RobotError."""
        raise RobotError("a robot can not be put back into an earlier state; reset it, and begin an episode.")

    def close(self) -> None:
        """End the control thread, and bring the robot into its safe state, whatever the thread is doing."""
        self._ending.set()
        self._orders.put(None)
        self._plans.put(None)
        try:
            self.env.operator.close()
        finally:  # whatever else fails
            self._thread.join(LEAVING)
            self.env.close()

    # The control thread's side.

    def _control(self) -> None:
        try:
            while (seed := self._orders.get()) is not None:
                self._episode(seed)
        except BaseException as error:  # the driver's thread raises it
            with suppress(Exception):
                self.env.stop(str(error))
            self._reports.put(error)

    def _episode(self, seed: int) -> None:
        self._history.begin(self.env.reset(seed=seed)[0])
        flow, span, ended = _Flow(self.pace), _Span(), False
        self._reports.put(_Report(self._history.row(), span))
        flow.take(self._plans.get())  # nothing moves yet, so there is time
        while not (ended or self._ending.is_set()):
            if flow.late():
                flow.take(self._plan())
            if flow.due():
                span.intervened |= span.own == 0  # it came so late that it never acted: nothing is learned of it
                self._reports.put(_Report(self._history.row(), span))
                span = _Span()
                if flow.late():  # without a lead at once
                    flow.take(self._plan())
            ended = self._step(flow, span)
        if self.env.rest():
            span.succeed(self.discount)
        if flow.asked is not None and not self._ending.is_set():
            self._plans.get()  # planned for a time that did not come
        self._reports.put(_Report(self._history.row(), span))

    def _plan(self) -> ndarray | None:
        """The next plan; None where it has not come within a part of the period and time goes on."""
        if not self.env.clock.waits:
            return self._plans.get()
        with suppress(queue.Empty):
            return self._plans.get(timeout=PATIENCE * self.env.period)
        self.env.clock.timing.starved += 1
        return None

    def _step(self, flow: "_Flow", span: _Span) -> bool:
        """One control step; whether the episode is over."""
        action = flow.action()
        span.own += flow.asked is None
        observation, reward, terminated, truncated, info = self.env.keep() if action is None else self.env.step(action)
        self._history.add(observation)
        span.add(reward, self.discount, info)
        span.terminated, span.truncated = terminated, not terminated and (truncated or flow.now >= self.pace.max_steps)
        return span.terminated or span.truncated


class _Flow:
    """Which action of which plan is due, in an episode that began ``now`` control steps ago."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.now = pace, 0
        self.asked: int | None = 0  # when a plan was asked for that has not been taken yet
        self._planned = 0  # when the present plan was asked for
        self._plan: ndarray | None = None

    def due(self) -> bool:
        """Whether the next plan is to be asked for now; it is, then."""
        if self.asked is not None or self.now - self._planned < self.pace.execute:
            return False
        self.asked = self.now
        return True

    def late(self) -> bool:
        """Whether the plan that was asked for takes over now, or should have before."""
        return self.asked is not None and self.now - self.asked >= self.pace.lead

    def take(self, plan: ndarray | None) -> None:
        """The plan that was asked for, if it has come."""
        if plan is not None and self.asked is not None:
            self._plan, self._planned, self.asked = plan, self.asked, None

    def action(self) -> ndarray | None:
        """The action (A,) of this control step; None where the plan has come to its end."""
        index, self.now = self.now - self._planned, self.now + 1
        return None if self._plan is None or index >= len(self._plan) else self._plan[index]
