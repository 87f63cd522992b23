"""What recordings hold, before anything is done with them: counts, keys, ranges, rates, tasks, success; and a page to look at.

Episodes are read one at a time and only sums are kept, with a few episodes for the page: the size of a data set does not
matter.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.readers import Source

SHOWN = 4  # episodes that are drawn
CHANNELS = (1, 3, 4)  # of images that are drawn
COUNTED = ("task", "operator")  # facts of which every value is counted


@dataclass
class KeyRange:
    """What one array holds over all episodes; images are taken as one number a pixel."""

    shape: tuple[int, ...]  # of one frame
    dtype: str
    low: np.ndarray
    high: np.ndarray
    other_shapes: int = 0  # episodes that do not fit to the first
    not_finite: int = 0  # frames

    @classmethod
    def empty(cls, values: np.ndarray) -> "KeyRange":
        """Before the first episode."""
        size = 1 if values.ndim == 4 else int(np.prod(values.shape[1:]))
        return cls(values.shape[1:], str(values.dtype), np.full(size, np.inf), np.full(size, -np.inf))

    def add(self, values: np.ndarray) -> None:
        """Take in (T, …) values of one episode."""
        if values.shape[1:] != self.shape:
            self.other_shapes += 1
        elif values.size:
            flat = values.reshape(-1 if values.ndim == 4 else len(values), len(self.low))
            finite = np.isfinite(flat).all(axis=1)
            self.not_finite += int((~finite).sum())
            if finite.any():
                self.low = np.minimum(self.low, flat[finite].min(0))
                self.high = np.maximum(self.high, flat[finite].max(0))

    def json(self) -> dict[str, Any]:
        """JSON form; a range is null where there was no finite value."""
        low, high = ([float(v) if np.isfinite(v) else None for v in part] for part in (self.low, self.high))
        shown = {"shape": list(self.shape), "dtype": self.dtype, "low": low, "high": high}
        wrong = {"episodes_of_other_shape": self.other_shapes, "frames_not_finite": self.not_finite}
        return {**shown, **{name: count for name, count in wrong.items() if count}}


@dataclass
class Inspection:
    """What one recording holds, added up episode by episode."""

    source: Source
    lengths: list[int] = field(default_factory=list)
    succeeded: int = 0
    rates: set[float] = field(default_factory=set)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})
    keys: dict[str, KeyRange] = field(default_factory=dict)
    facts: set[str] = field(default_factory=set)
    shown: list[Episode] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source) -> "Inspection":
        """Read a recording. Raises DataError where it can not be read."""
        found = cls(source)
        for episode in source.episodes():
            found.add(episode)
        return found

    def add(self, episode: Episode) -> None:
        """Take in one episode."""
        self.lengths.append(len(episode))
        self.succeeded += bool(episode.success.any())
        self.facts |= episode.facts.keys()
        if "fps" in episode.facts:
            self.rates.add(float(episode.facts["fps"]))
        for name, count in self.counts.items():
            if episode.facts.get(name):
                count[str(episode.facts[name])] += 1
        for key, values in episode.arrays().items():
            if key not in self.keys:
                self.keys[key] = KeyRange.empty(values)
            self.keys[key].add(values)
        if len(self.shown) < SHOWN and len(episode):
            self.shown.append(episode)

    def json(self) -> dict[str, Any]:
        """JSON form, for scripts."""
        lengths = self.lengths or [0]
        return {
            "path": str(self.source.path),
            "format": self.source.format,
            "episodes": len(self.lengths),
            "steps": sum(self.lengths),
            "length": {"shortest": min(lengths), "median": float(np.median(lengths)), "longest": max(lengths)},
            "fps": sorted(self.rates),
            "episodes_with_success": self.succeeded,
            **{f"{name}s": dict(count.most_common()) for name, count in self.counts.items()},
            "facts": sorted(self.facts),
            "keys": {key: found.json() for key, found in self.keys.items()},
        }


def draw(found: Inspection, path: Path) -> None:
    """A page of plots as PNG: lengths, rewards, actions of the first episodes, ranges of actions, images if there are any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    images = [key for key, known in found.keys.items() if len(known.shape) == 3 and known.shape[2] in CHANNELS]
    figure = plt.figure(figsize=(11, 6.4 + 2.2 * len(images)), layout="constrained")
    parts = figure.subfigures(1 + len(images), 1, height_ratios=[6.4] + [2.2] * len(images), squeeze=False)[:, 0]
    (lengths, rewards), (actions, ranges) = parts[0].subplots(2, 2)
    lengths.hist(found.lengths, bins=min(30, max(1, len(set(found.lengths)))), color="tab:blue")
    lengths.set(title=f"{len(found.lengths)} episodes", xlabel="steps", ylabel="episodes")
    for number, episode in enumerate(found.shown):
        rewards.plot(episode.reward, color=f"C{number}", label=str(episode.facts.get("name", number)), alpha=0.8)
        shown = episode.action.reshape(len(episode), -1)[:, :64]
        for dimension in range(shown.shape[1]):
            actions.plot(shown[:, dimension], color=f"C{dimension}", alpha=0.9 if number == 0 else 0.25, linewidth=1)
    rewards.set(title=f"reward; {found.succeeded} of {len(found.lengths)} episodes succeed", xlabel="step")
    rewards.legend(frameon=False, fontsize=8)
    actions.set(title="actions, a colour a dimension; the first episode in full colour", xlabel="step")
    known = found.keys.get("action") or KeyRange.empty(np.zeros((0, 0)))
    ranges.bar(
        range(len(known.low)), known.high - known.low, bottom=known.low, color=[f"C{i}" for i in range(len(known.low))]
    )
    ranges.set(title="range of each action dimension", xlabel="dimension", xticks=range(len(known.low)))
    for part, key in zip(parts[1:], images, strict=True):
        part.suptitle(f"{key}: first, middle and last frame", fontsize=9)
        pictures = [e.arrays()[key][t] for e in found.shown for t in (0, len(e) // 2, -1) if key in e.arrays()]
        axes = part.subplots(1, len(pictures), squeeze=False)[0] if pictures else ()
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(picture.squeeze(), cmap="gray")
            axis.axis("off")
    figure.suptitle(f"{found.source.path} ({found.source.format})")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
