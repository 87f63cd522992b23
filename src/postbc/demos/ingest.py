"""Take recordings into the demonstration store: checked, whole episodes, and on from where a killed ingest stopped."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from postbc.demos.checks import Checker, Finding, Severity, grouped
from postbc.demos.episode import Episode
from postbc.demos.preparation import Preparation
from postbc.demos.readers import Source
from postbc.demos.store import FORMAT, INDEX, SEGMENT_BYTES, commit, segment_is_whole, write_segment
from postbc.errors import DataError
from postbc.progress import Track, log


def _checked(
    sources: dict[str, Source], limit: int | None, prepare: Preparation, checker: Checker, findings: list[Finding]
) -> Iterator[tuple[str, Episode]]:
    """(source sha256, episode) for every episode that passes; what does not stop it is added to ``findings``."""
    taken = 0
    for digest, source in sources.items():
        if taken == limit:
            log.warning("ingest.max_episodes = %d is reached: nothing is taken from %s", limit, source.path)
            continue
        for recorded in islice(source.episodes(), None if limit is None else limit - taken):
            where = f"{source.path}: {recorded.facts['name']}"
            episode = prepare.named(recorded, where)
            for found in checker.add(episode, where):
                if checker.stops(found):
                    raise DataError(f"{found}; what each check means: docs/demonstrations.md")
                findings.append(found)
            if taken == 0:
                prepare.refuse_unfit(episode, where)
            taken += 1
            facts = {**episode.facts, "source": source.path.name, "sha256": digest}
            yield digest, replace(prepare.pictured(episode), facts=facts)
        if taken == limit:
            log.info("no more than ingest.max_episodes = %d are taken of %s", limit, source.path)


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


def _identity(group: list[Episode], fps: float) -> str:
    """Part of a segment's name: what is stored otherwise, be it for a change of the program, is another segment."""
    held = hashlib.sha256(json.dumps([FORMAT, fps]).encode())
    for episode in group:
        arrays = {key: np.ascontiguousarray(values) for key, values in sorted(episode.arrays().items())}
        described = {key: [values.shape, str(values.dtype)] for key, values in arrays.items()}
        held.update(json.dumps([episode.facts, described], sort_keys=True).encode())
        for values in arrays.values():
            held.update(values)
    return held.hexdigest()[:12]


def ingest(
    sources: list[Source],
    store: Path,
    checker: Checker,
    max_episodes: int | None = None,
    prepare: Preparation | None = None,
) -> dict[str, int]:
    """Bring ``store`` to hold exactly the recordings ``sources``; returns counts of episodes, steps and warnings.

    What is already stored is kept, what is new is appended, what is gone from ``sources`` is dropped. Raises DataError
    (file, episode and key named) at the first bad episode, before the store's index changes.
    """
    prepare = prepare or Preparation()
    by_digest = {source.sha256: source for source in sources}
    if len(by_digest) < len(sources):
        raise DataError(f"The same recording is there twice: {', '.join(str(s.path) for s in sources)}.")
    names, findings, episodes, steps = list[str](), list[Finding](), 0, 0
    fps = checker.expected.fps
    assert fps is not None  # noqa: S101 - a task has a rate
    with Track("ingest", len(sources)) as bar:
        for name, group in _segments(_checked(by_digest, max_episodes, prepare, checker, findings)):
            name += f"-{_identity(group, fps)}"
            if not segment_is_whole(store, name):
                write_segment(store, name, group, fps)
            names.append(name)
            episodes, steps = episodes + len(group), steps + sum(map(len, group))
            bar.advance(len({known[:12] for known in names}) - bar.done, f"{episodes} episodes")  # recordings begun
    findings += checker.finish()
    for found, more in grouped(findings):
        level = logging.INFO if found.severity is Severity.NOTE else logging.WARNING
        log.log(level, "%s%s", found, f" and in {more} more" if more else "")
    warnings = [found.json() for found in findings if found.severity is not Severity.NOTE]
    commit(store, names, warnings)
    for stale in (p for p in store.iterdir() if p.name not in (*names, INDEX)):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    return {"episodes": episodes, "steps": steps, "warnings": len(warnings)}
