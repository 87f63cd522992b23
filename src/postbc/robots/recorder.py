"""Keeps every step of a robot: appended to a journal at once, turned into a demonstration segment when the episode ends.

A killed process leaves a journal of whole lines; the next session turns it into an episode. Nothing is ever overwritten.
"""

import base64
import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.store import commit, compact, episode_count, listed_segments, write_segment
from postbc.observation import INTERVENTION
from postbc.storage.atomic import append
from postbc.storage.journal import read_lines

Step = dict[str, Any]
JOURNAL = ".jsonl"


def _packed(value: np.ndarray) -> Any:
    """Numbers as they are; an image as its bytes in base64, because a list of them takes longer than a control step."""
    if value.dtype != np.uint8:
        return value.tolist()
    return {"shape": value.shape, "bytes": base64.b64encode(value.tobytes()).decode()}


def _unpacked(value: Any) -> np.ndarray:
    if not isinstance(value, dict):
        return np.array(value, np.float32)
    return np.frombuffer(base64.b64decode(value["bytes"]), np.uint8).reshape(value["shape"])


def _episode(steps: list[Step], facts: dict[str, Any]) -> Episode:
    keys = sorted(steps[0]["obs"])
    person = np.array([[step.get("intervention", False)] for step in steps], np.float32)
    return Episode(
        action=np.array([s["action"] for s in steps], np.float32),
        obs={**{key: np.stack([_unpacked(step["obs"][key]) for step in steps]) for key in keys}, INTERVENTION: person},
        reward=np.array([s["success"] for s in steps], np.float32),
        success=np.array([s["success"] for s in steps], bool),
        facts=facts,
    )


def read_journal(path: Path) -> tuple[dict[str, Any], list[Step]]:
    """Facts and steps of a journal; a last line that was cut off by a kill is dropped."""
    whole, steps = read_lines(path), list[Step]()
    for line in whole[1:]:
        if "action" in line:
            steps.append({"success": False, **line})
        elif steps:  # what became known of the last step
            steps[-1] |= line
    return whole[0] if whole else {}, steps


class Recorder:
    """Writes the episodes of one session into the demonstration store ``store``; ``facts`` go with each of them."""

    def __init__(self, store: Path, fps: float, facts: dict[str, Any]) -> None:
        self.store, self.fps, self.facts = store, fps, {"source": "robot", **facts}
        store.mkdir(parents=True, exist_ok=True)
        self._journal: int | None = None
        self._session: list[str] = []
        self._count = 0
        for left_over in sorted(store.glob(f"*{JOURNAL}")):
            self._store(left_over)
        self._session = []  # what was left over may be of another shape, and is not joined with what comes
        self._count = episode_count(store)

    def begin(self, seed: int) -> None:
        """Start the journal of an episode."""
        self.end()
        names = (f"episode-{number:06d}" for number in count(self._count))
        name = next(name for name in names if not (self.store / name).exists())
        self._path = self.store / f"{name}{JOURNAL}"
        self._journal = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._append({**self.facts, "seed": seed, "name": self._path.stem})

    def step(self, obs: dict[str, Any], action: Any, intervention: bool = False) -> None:
        """Record what was seen, what was really executed and whether by a person; on the disk's queue before it returns."""
        values = {key: _packed(np.asarray(value)) for key, value in obs.items() if np.size(value)}
        executed = np.asarray(action, float).tolist()
        self._append({"obs": values, "action": executed, "intervention": bool(intervention)})

    def succeed(self) -> None:
        """Record that the last step led to success."""
        self._append({"success": True})

    def _append(self, line: dict[str, Any]) -> None:
        assert self._journal is not None, "begin() comes first"  # noqa: S101 - internal order of calls
        append(self._journal, json.dumps(line).encode() + b"\n")

    def end(self) -> None:
        """Close the running episode, if any, and commit it to the store."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None
            self._store(self._path)

    def _store(self, journal: Path) -> None:
        facts, steps = read_journal(journal)
        if steps:
            name = journal.stem
            write_segment(self.store, name, [_episode(steps, facts)], self.fps)
            commit(self.store, [*(n for n in listed_segments(self.store) if n != name), name])
            self._session.append(name)
            self._count += 1
        journal.unlink()

    def close(self) -> None:
        """End the running episode and join the session's episodes into one segment."""
        self.end()
        if len(self._session) > 1:
            compact(self.store, self._session, self.fps)
            self._session = []
