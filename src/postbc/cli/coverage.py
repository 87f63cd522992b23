"""``postbc coverage``: what the pretrained policies reach before any finetuning."""

import json
import logging
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from postbc.config import Config
    from postbc.demos.frames import Frames

PRETRAINED = Path("artifacts/pretrained")


def coverage(
    starts: Annotated[int, typer.Option(min=1, help="Held-out initial states, the same for every method.")] = 64,
    tries: Annotated[
        int, typer.Option(min=1, help="Times each start is played, each with latent noise of its own.")
    ] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Environments side by side.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Play the pretrained policies many times from the same starts: one try, w = 0, best of n, starts never solved.

    Recordings that params.yaml leaves out of training (beyond ingest.max_episodes) measure spread and energy of actions.
    """
    from postbc.compose import load_config
    from postbc.evaluation.coverage import compare, cover
    from postbc.sims.starts import EVALUATION, seeds
    from postbc.sims.vector import ChunkEnvs

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = load_config()
    held_out, vector = held_out_frames(config), ChunkEnvs.of(config.task).vector(workers)
    try:
        found = {
            name: _with_actions(cover(policy, vector, seeds(EVALUATION, 0, starts), tries, name), policy, held_out)
            for name, policy in _policies(config)
        }
    finally:
        vector.close()
    _show(compare(found), as_json)


def _show(table: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(table, indent=2))
        return
    from rich.console import Console

    from postbc.reporting.table import coverage_table

    Console(width=None if sys.stdout.isatty() else 140).print(coverage_table(table))


def _policies(config: "Config") -> Iterator[tuple[str, Any]]:
    from postbc.errors import DataError
    from postbc.policies.folder import load_policy

    for method in config.methods:
        if not (PRETRAINED / method).is_dir():
            raise DataError(f"{PRETRAINED / method} is missing: run `dvc repro pretrain` first.")
        yield method, load_policy(PRETRAINED / method, scale=1.0)  # a conditional policy is asked to cover


def held_out_frames(config: "Config") -> "Frames | None":
    """Frames of the recordings that were not trained on; None where there are none."""
    from postbc.demos.frames import stack_frames
    from postbc.demos.preparation import Preparation
    from postbc.demos.readers import find_sources
    from postbc.sims import get_task

    if config.ingest.max_episodes is None:
        return None
    sources = find_sources(Path(config.ingest.source), config.ingest.filter_key)
    recorded = ((episode, str(source.path)) for source in sources for episode in source.episodes())
    task = get_task(config.task.env)
    prepare = Preparation.of(config.ingest)  # what is drawn comes with task.images
    rest = [prepare.pictured(prepare.named(*one)) for one in islice(recorded, config.ingest.max_episodes, None)]
    parts = [(*task.see(e.obs), e.action, task.images(e.obs)) for e in rest]
    return stack_frames(parts, config.task.fps, config.task.history) if parts else None


def _with_actions(covered: Any, policy: Any, held_out: "Frames | None") -> Any:
    from dataclasses import replace

    from postbc.evaluation.coverage import against_demonstrations

    return covered if held_out is None else replace(covered, actions=against_demonstrations(policy, held_out))
