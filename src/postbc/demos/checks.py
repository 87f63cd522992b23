"""Whether recordings are fit to be trained on: named checks, each an error, a warning or a note.

Errors stop an ingest unless they are allowed by name; warnings are kept with the store. What no store could hold (an empty
episode, values that are not finite, arrays that do not fit together) is ``malformed``, what can not be read ``unreadable``;
neither can be allowed. Episodes pass one at a time and only sums of them are kept.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from postbc.demos.episode import Episode, check_episode, check_layout, layout
from postbc.demos.provenance import other_simulator
from postbc.errors import ConfigError, DataError

FROZEN_FRAMES = 10  # frames in a row in which nothing that is observed changes
SATURATED, BINARY = 0.2, 0.9  # share of frames at a limit: worth a warning; a gripper that knows two commands
OUTLYING = 3.0  # times the median length
JUMP_OF_RANGE, JUMP_OF_STEPS = 0.5, 20.0  # a step over half the range and twenty times the usual step
STILL = 1e-3  # of the widest range of the same array
FOLLOWS = 0.9  # correlation at which an action is said to follow what is observed
EVERYWHERE = "all episodes"
WIDEST, WIDE = 64, 4096  # numbers in an observation of which correlations, and leaps, are looked for


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


CHECKS = {
    "unreadable": (Severity.ERROR, "a recording that its reader refuses, from there on"),
    "malformed": (Severity.ERROR, "empty, not finite, or of other keys, shapes or lengths than the rest"),
    "other_simulator": (Severity.ERROR, "another simulator, version, control rate or controller than is installed"),
    "rate": (Severity.ERROR, "recorded at another rate than the task's"),
    "out_of_range": (Severity.ERROR, "actions beyond the task's limits"),
    "other_order": (Severity.ERROR, "an action whose numbers are the task's, in another order"),
    "duplicate_episode": (Severity.ERROR, "the same actions and observations as an episode before"),
    "timestamps": (Severity.ERROR, "timestamps that stand still or run backwards"),
    "off_rate": (Severity.WARNING, "timestamps more than a fifth of a step off the rate"),
    "frozen": (Severity.WARNING, f"{FROZEN_FRAMES} frames or more in which nothing observed changes"),
    "jump": (Severity.WARNING, "an observation that leaps within one step: a teleport, a wrapped angle, a flipped quaternion"),
    "constant_dimension": (Severity.WARNING, "a number of the action that never changes"),
    "nearly_constant": (Severity.WARNING, "a number that changes so little that a policy is shown its noise at full size"),
    "duplicated_dimension": (Severity.WARNING, "two numbers of the action that are always the same"),
    "saturated": (Severity.WARNING, "actions at their limit in a fifth of the frames or more"),
    "length_outlier": (Severity.WARNING, "an episode a third or three times as long as the median"),
    "no_success": (Severity.WARNING, "an episode without success among others with"),
    "several_tasks": (Severity.WARNING, "episodes of different instructions, which no policy here reads"),
    "absolute_or_delta": (Severity.NOTE, "actions that follow positions, or their changes"),
}  # fmt: skip
NEVER_ALLOWED = {"unreadable", "malformed"}


@dataclass(frozen=True)
class Finding:
    """What a check found and where; ``frame`` is the first one concerned."""

    check: str
    where: str  # file and episode, or "all episodes"
    message: str
    key: str = "action"
    frame: int | None = None

    @property
    def severity(self) -> Severity:
        """That of its check."""
        return CHECKS[self.check][0]

    def __str__(self) -> str:
        at = "" if self.frame is None else f" at frame {self.frame}"
        return f"{self.where}: {self.message}{at} [{self.check}]"

    def json(self) -> dict[str, Any]:
        """JSON form, for scripts."""
        return {**vars(self), "severity": str(self.severity)}


def grouped(findings: Iterable[Finding]) -> list[tuple[Finding, int]]:
    """The first finding of each check and key, worst first, and in how many episodes more it was made."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.check, one.key), []).append(one)
    order = list(Severity)
    return sorted(((own[0], len(own) - 1) for own in groups.values()), key=lambda pair: order.index(pair[0].severity))


@dataclass(frozen=True)
class Expected:
    """What a task expects of recordings; None where nothing is known."""

    fps: float | None = None
    low: tuple[float, ...] | None = None  # action limits
    high: tuple[float, ...] | None = None
    simulator: Mapping[str, Any] | None = None  # robomimic's env_args of the one that is installed
    action: tuple[str, ...] | None = None  # names of the action's numbers


@dataclass
class _Moments:
    """Sums for correlations of actions (A) with observations at the next step (O) and with their changes (O)."""

    count: int = 0
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, action: np.ndarray, seen: np.ndarray) -> None:
        """Take in an episode: (T, A) and (T, O)."""
        parts = np.concatenate([action[:-1], seen[1:], np.diff(seen, axis=0)], axis=1).astype(np.float64)
        found = {"first": parts.sum(0), "second": parts.T @ parts}
        self.count += len(parts)
        self.sums = {k: self.sums[k] + v if self.sums else v for k, v in found.items()}

    def correlations(self, actions: int) -> tuple[np.ndarray, np.ndarray]:
        """|r| of every action with every position and with every change: (A, O) each; 0 where one is constant."""
        mean = self.sums["first"] / self.count
        covariance = self.sums["second"] / self.count - np.outer(mean, mean)
        std = np.sqrt(np.clip(np.diag(covariance), 0, None))
        scale = np.outer(std, std)
        r = np.abs(np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12))[:actions, actions:]
        return r[:, : r.shape[1] // 2], r[:, r.shape[1] // 2 :]


class Checker:
    """Takes episodes one by one; what concerns all of them is said by :meth:`finish`.

    ``allow`` are names of checks whose errors do not count. Raises ConfigError for one that there is not.
    """

    def __init__(self, expected: Expected, allow: Iterable[str] = ()) -> None:
        self.expected, self.allow = expected, frozenset(allow)
        allowed = [name for name in CHECKS if name not in NEVER_ALLOWED]
        if strange := sorted(self.allow.difference(allowed)):
            raise ConfigError(f"{', '.join(strange)}: no check that can be allowed; these can: {', '.join(allowed)}.")
        self.lengths: list[tuple[str, int]] = []  # where, steps: names may repeat
        self.unsolved: list[str] = []
        self._tasks: dict[str, int] = {}  # instruction: episodes
        self._seen: dict[str, str] = {}
        self._simulators: dict[str, str] = {}  # env_args and how they differ from what is expected
        self._layout: dict[str, str] | None = None
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._same: np.ndarray | None = None  # (A, A): numbers that were always equal
        self._at_limit: np.ndarray | None = None
        self._moments: dict[str, _Moments] = {}
        self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # smallest and largest of every number, by array

    def stops(self, found: Finding) -> bool:
        """Whether a finding stops an ingest."""
        return found.severity is Severity.ERROR and found.check not in self.allow

    def add(self, episode: Episode, where: str) -> list[Finding]:
        """What is wrong with one episode."""
        try:
            check_episode(episode, where)
            self._layout = self._layout or layout(episode)
            check_layout(episode, self._layout, where)
        except DataError as error:
            return [Finding("malformed", where, str(error).removeprefix(f"{where}: "))]
        found = [
            *self._simulator(episode, where),
            *self._clock(episode, where),
            *self._actions(episode, where),
            *_observations(episode, where),
        ]
        digest = hashlib.sha256()
        for _, values in sorted({"action": episode.action, **episode.obs}.items()):
            digest.update(np.ascontiguousarray(values))
        content = digest.hexdigest()
        if content in self._seen:
            found.append(Finding("duplicate_episode", where, f"the same as {self._seen[content]}"))
        self._seen.setdefault(content, where)
        self._sum(episode, where)
        return found

    def _simulator(self, episode: Episode, where: str) -> Iterator[Finding]:
        recorded = episode.facts.get("env_args")
        if self.expected.simulator is None or recorded is None:
            return
        if recorded not in self._simulators:
            self._simulators[recorded] = other_simulator(str(recorded), self.expected.simulator)
        if self._simulators[recorded]:
            yield Finding("other_simulator", where, self._simulators[recorded], "env_args")

    def _clock(self, episode: Episode, where: str) -> Iterator[Finding]:
        recorded, wanted = episode.facts.get("fps"), self.expected.fps
        if wanted and recorded and recorded != wanted:
            yield Finding("rate", where, f"recorded at {recorded:g} Hz, the task runs at {wanted:g} Hz", "fps")
        if episode.timestamp is None or len(episode) < 2:
            return
        steps, rate = np.diff(episode.timestamp), recorded or wanted
        if (steps <= 0).any():
            yield Finding("timestamps", where, "time does not go on", "timestamp", int((steps <= 0).argmax()) + 1)
        elif rate and (np.abs(steps * rate - 1) > 0.2).any():
            worst = int(np.abs(steps * rate - 1).argmax())
            message = f"{steps[worst]:.3f} s from one frame to the next at {rate:g} Hz"
            yield Finding("off_rate", where, message, "timestamp", worst + 1)

    def _actions(self, episode: Episode, where: str) -> Iterator[Finding]:
        if self.expected.low is None or self.expected.high is None:
            return
        low, high = np.array(self.expected.low), np.array(self.expected.high)
        if len(low) != episode.action.shape[1]:
            yield Finding("malformed", where, f"{episode.action.shape[1]} numbers, the task takes {len(low)}")
            return
        said, wanted = episode.facts.get("action_names"), list(self.expected.action or ())
        if said and said != wanted and sorted(said) == sorted(wanted):
            yield Finding("other_order", where, f"recorded as {', '.join(said)}; the task has {', '.join(wanted)}")
        beyond = (episode.action < low - 1e-4 * (high - low)) | (episode.action > high + 1e-4 * (high - low))
        if beyond.any():
            frame, number = map(int, np.argwhere(beyond)[0])
            limits = f"limits {low[number]:g} to {high[number]:g}"
            message = f"number {number} is {episode.action[frame, number]:.4g}, {limits}"
            yield Finding("out_of_range", where, message, frame=frame)

    def _sum(self, episode: Episode, where: str) -> None:
        action, size = episode.action, episode.action.shape[1]
        self.lengths.append((where, len(episode)))
        if not episode.success.any():
            self.unsolved.append(where)
        if told := str(episode.facts.get("task") or ""):
            self._tasks[told] = self._tasks.get(told, 0) + 1
        same = np.array([(action[:, i : i + 1] == action).all(0) for i in range(size)])
        low, high = action.min(0), action.max(0)
        if self._low is None or self._high is None or self._same is None:
            self._low, self._high, self._same = low, high, same
        self._low, self._high, self._same = np.minimum(low, self._low), np.maximum(high, self._high), same & self._same
        low_limit, high_limit = self.expected.low, self.expected.high
        if low_limit is not None and high_limit is not None and len(low_limit) == size:
            close = np.isclose(action, low_limit) | np.isclose(action, high_limit)
            self._at_limit = close.sum(0) + (0 if self._at_limit is None else self._at_limit)
        for key, values in {"action": action, **episode.obs}.items():
            if values.ndim == 4 or values[0].size > WIDEST:
                continue
            flat = values.reshape(len(values), -1)
            least, most = self._ranges.get(key, (flat[0], flat[0]))
            self._ranges[key] = np.minimum(least, flat.min(0)), np.maximum(most, flat.max(0))
            if key != "action" and len(episode) > 1:
                self._moments.setdefault(key, _Moments()).add(action, flat)

    def finish(self) -> list[Finding]:
        """What all episodes together show."""
        if self._low is None or self._high is None or self._same is None:
            return []
        found = list[Finding]()
        constant = self._low == self._high
        for number in np.flatnonzero(constant):
            found.append(
                Finding("constant_dimension", EVERYWHERE, f"number {number} is always {self._low[number]:.4g}")
            )
        for i, j in np.argwhere(np.triu(self._same, 1)):
            if not constant[i]:
                found.append(Finding("duplicated_dimension", EVERYWHERE, f"numbers {i} and {j} are always the same"))
        if self._at_limit is not None:
            share = self._at_limit / sum(length for _, length in self.lengths)
            for number in np.flatnonzero((share > SATURATED) & (share < BINARY)):
                message = f"number {number} is at its limit in {100 * share[number]:.0f} % of frames"
                found.append(Finding("saturated", EVERYWHERE, message))
        median = float(np.median([length for _, length in self.lengths]))
        for where, length in self.lengths:
            if not median / OUTLYING <= length <= median * OUTLYING:
                found.append(Finding("length_outlier", where, f"{length} steps, the median is {median:g}", "length"))
        if len(self.unsolved) < len(self.lengths):  # where none succeeds, success was not recorded
            found += [Finding("no_success", where, "it holds no success", "success") for where in self.unsolved]
        return [*found, *self._stillness(), *self._instructions(), *self._convention()]

    def _stillness(self) -> Iterator[Finding]:
        """Numbers that are scaled up to others' size, and their noise with them; what never changes is only shifted."""
        for key, (least, most) in self._ranges.items():
            ranges = most.astype(np.float64) - least
            for number in np.flatnonzero((ranges > 0) & (ranges < STILL * ranges.max())):
                said = f"number {number} changes by {ranges[number]:.2g} in all, others by up to {ranges.max():.2g}"
                yield Finding("nearly_constant", EVERYWHERE, said, key)

    def _instructions(self) -> Iterator[Finding]:
        """Several of them."""
        if len(self._tasks) > 1:
            said = "; ".join(f"{count} of {told!r}" for told, count in sorted(self._tasks.items()))
            yield Finding("several_tasks", EVERYWHERE, said, "task")

    def _convention(self) -> list[Finding]:
        """Whether actions follow what is observed next, or its change: absolute targets, or deltas."""
        assert self._low is not None  # noqa: S101 - the caller asks
        best: dict[int, tuple[float, bool, str]] = {}
        for key, moments in self._moments.items():
            for absolute, r in zip((True, False), moments.correlations(len(self._low)), strict=True):
                for number, row in enumerate(r):
                    if row.max() > max(FOLLOWS, best.get(number, (0.0, False, ""))[0]):
                        place = f"{'the value' if absolute else 'the change'} of {key}, number {row.argmax()}"
                        best[number] = (float(row.max()), absolute, place)
        told = [f"{number} follows {place} ({r:.2f})" for number, (r, _, place) in sorted(best.items())]
        targets = sum(absolute for _, absolute, _ in best.values())
        guess = "absolute targets" if 2 * targets > len(best) else "deltas"
        return [Finding("absolute_or_delta", EVERYWHERE, f"looks like {guess}: {'; '.join(told)}")] if told else []


def _observations(episode: Episode, where: str) -> Iterator[Finding]:
    """Frames that stand still, numbers that leap."""
    if len(episode) < 2:
        return
    still = np.ones(len(episode) - 1, bool)
    for values in episode.obs.values():
        still &= (values[1:] == values[:-1]).reshape(len(still), -1).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still, [0]])))
    runs = [(int(b - a) + 1, int(a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if runs and max(runs)[0] >= FROZEN_FRAMES:
        length, start = max(runs)
        yield Finding("frozen", where, f"{length} frames in a row are the same", "obs", start)
    for key, values in episode.obs.items():
        if values.ndim == 4 or values[0].size > WIDE:
            continue
        flat = values.reshape(len(values), -1).astype(np.float64)
        steps = np.abs(np.diff(flat, axis=0))
        usual = np.array([np.median(own[own > 0]) if (own > 0).any() else np.inf for own in steps.T])
        leap = (steps > JUMP_OF_STEPS * usual) & (steps > JUMP_OF_RANGE * np.ptp(flat, axis=0))
        if leap.any():
            frame, number = map(int, np.argwhere(leap)[0])
            message = f"number {number} of {key} leaps by {steps[frame, number]:.4g}, usually {usual[number]:.2g}"
            yield Finding("jump", where, message, f"obs/{key}", frame + 1)
