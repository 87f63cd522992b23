"""Take recordings into the demonstration store: checked, whole episodes, and on from where a killed ingest stopped."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from postbc.demos.episode import Episode, check_episode, check_layout, layout
from postbc.demos.readers import Source
from postbc.demos.store import INDEX, SEGMENT_BYTES, commit, segment_is_whole, write_segment
from postbc.errors import DataError
from postbc.progress import Track


@dataclass(frozen=True)
class Drawing:
    """Camera images that a task needs under ``key``, and how they follow from what was recorded."""

    key: str
    draw: Callable[[Mapping[str, np.ndarray]], np.ndarray]

    def __call__(self, episode: Episode) -> Episode:
        """``episode`` with the images, drawn where they were not recorded."""
        if self.key in episode.obs:
            return episode
        return replace(episode, obs={**episode.obs, self.key: self.draw(episode.obs)})


def _checked(
    sources: list[Source], fps: float, limit: int | None, drawing: Drawing | None
) -> Iterator[tuple[str, Episode]]:
    """(source sha256, episode) for every episode, each one checked on its own, its rate, and against the first."""
    expected = None
    taken = 0
    for source in sources:
        digest = source.sha256
        for episode in islice(source.episodes(), None if limit is None else limit - taken):
            where = f"{source.path}: {episode.facts['name']}"
            check_episode(episode, where)
            if episode.facts.get("fps", fps) != fps:
                raise DataError(f"{where}: recorded at {episode.facts['fps']:g} Hz, the task runs at {fps:g} Hz.")
            episode = drawing(episode) if drawing else episode
            expected = expected or layout(episode)
            check_layout(episode, expected, where)
            taken += 1
            yield (
                digest,
                replace(episode, facts={**episode.facts, "source": source.path.name, "sha256": digest}),
            )


def _segments(episodes: Iterator[tuple[str, Episode]]) -> Iterator[tuple[str, list[Episode]]]:
    """Group episodes of one source into segments of about SEGMENT_BYTES; names follow from content and order."""
    digest, number, size, group = "", 0, 0, list[Episode]()
    for source, episode in episodes:
        if group and (source != digest or size >= SEGMENT_BYTES):
            yield f"{digest[:12]}-{number:04d}", group
            number, size, group = (number + 1 if source == digest else 0), 0, []
        digest = source
        group.append(episode)
        size += sum(values.nbytes for values in episode.arrays().values())
    if group:
        yield f"{digest[:12]}-{number:04d}", group


def ingest(
    sources: list[Source], store: Path, fps: float, max_episodes: int | None = None, drawing: Drawing | None = None
) -> dict[str, int]:
    """Bring ``store`` to hold exactly the recordings ``sources``; returns counts of episodes and steps.

    What is already stored is kept, what is new is appended, what is gone from ``sources`` is dropped. Raises DataError
    (file, episode and key named) at the first bad episode, before the store's index changes.
    """
    digests = [source.sha256 for source in sources]
    if len(set(digests)) < len(digests):
        raise DataError(f"The same recording is there twice: {', '.join(str(s.path) for s in sources)}.")
    names, episodes, steps = list[str](), 0, 0
    with Track("ingest", len(sources)) as bar:
        for name, group in _segments(_checked(sources, fps, max_episodes, drawing)):
            # The limit is part of a segment's identity: a set cut short must not pass for the whole one.
            name = name if max_episodes is None else f"{name}-first{max_episodes}"
            name = f"{name}-{drawing.key}" if drawing else name
            if not segment_is_whole(store, name):
                write_segment(store, name, group, fps)
            names.append(name)
            episodes, steps = episodes + len(group), steps + sum(map(len, group))
            bar.advance(len(names) - bar.done, f"{episodes} episodes")
    commit(store, names)
    for stale in (p for p in store.iterdir() if p.name not in (*names, INDEX)):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    return {"episodes": episodes, "steps": steps}
