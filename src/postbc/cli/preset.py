"""``postbc preset``: a task as a file in conf/task that `dvc repro` takes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml

from postbc.errors import ConfigError

PRESET = """\
# @package _global_
# {env}, success: {success}.
# Demonstrations: {source}
task:
  name: {name}
  env: {env}
  fps: {fps}
  max_steps: {max_steps}
  chunk: {chunk}
  instruction: {instruction}
  options: {{}} # those of the environment
ingest:
  source: data/{name}
# The defaults of docs/configuration.md, but for the budgets; nothing here has been tuned.
posterior: {{}}
pretrain: {{}}
finetune_sim: {{env_steps: 60000, initial_steps: 6000, evaluate_every: 10000}}
finetune_robot: {{{replay}finetune: {{env_steps: 6000}}}}
evaluate: {{}}
register: {{}}
"""


def preset(
    task: Annotated[str, typer.Argument(help="Any task of `postbc tasks`, for instance metaworld/door-open.")],
    chunk: Annotated[int, typer.Option(help="Actions predicted and executed open loop.")] = 4,
    instruction: Annotated[str | None, typer.Option(help="What the task is, in words; default: its name.")] = None,
) -> None:
    """Write conf/task/NAME.yaml for a task, to be edited; never overwrites one."""
    from postbc.sims import get_task
    from postbc.sims.demonstrators.collect import default_task
    from postbc.storage.atomic import atomic_write

    folder, known, wanted = Path("conf/task"), get_task(task), default_task(task)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is missing here; run the command in the project's root.")
    path = folder / f"{wanted.name}.yaml"
    if path.exists():
        raise ConfigError(f"{path} exists; edit it, or delete it first.")
    words = instruction or f"{wanted.name.split('metaworld-')[-1].replace('-', ' ').replace('_', ' ').capitalize()}."
    facts = {"name": wanted.name, "env": wanted.env, "fps": wanted.fps, "max_steps": wanted.max_steps}
    data = f"data/{wanted.name}"
    source = (
        f"postbc collect {data}/demos.hdf5 --task {wanted.name}" if known.operators() else f"recordings below {data}"
    )
    facts["chunk"] = replace(wanted, chunk=chunk).chunk  # refused where it is impossible
    replay = "replay: false, " if known.dense else ""  # its reward in simulation is another than a robot's
    atomic_write(
        path, PRESET.format(**facts, instruction=_scalar(words), success=known.success, replay=replay, source=source)
    )
    typer.echo(f"{path} written. Next: {source}; dvc add data;")
    typer.echo(f"in params.yaml `task: {wanted.name}`; dvc repro.")


def _scalar(text: str) -> str:
    """``text`` as YAML in one line: plain where that says the same, else quoted."""
    try:
        plain = yaml.safe_load(f"text: {text}") == {"text": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
