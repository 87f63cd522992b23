"""Runs in progress in MLflow: stages write journals, and whoever watches brings them into MLflow as metrics.

So no stage waits for MLflow, needs it, or is made anew because it changed. A journal is one MLflow run of the experiment
``postbc-live``; how many of its rows are there already is a tag of that run. A run that was killed counts as running until
it has gone on and ended, or another one has begun in its place.
"""

import time
from itertools import batched
from pathlib import Path
from typing import Any

from postbc.storage.journal import Row, Written, read_journal
from postbc.tracking.client import METRICS_AT_ONCE, in_our_words, quiet_mlflow

RUN, ROWS = "live_run", "live_rows"  # tags


class Live:
    """Mirrors the journals in ``folder`` into one experiment at a tracking address."""

    def __init__(self, folder: Path, uri: str, experiment: str) -> None:
        self.folder, self.uri, self.experiment = folder, uri, experiment
        self._client: Any = None

    def mirror(self) -> int:
        """Log what is new; returns how many rows that was. Raises RegistryError when MLflow cannot be reached."""
        with in_our_words(self.uri, "Logging runs in progress"):
            return sum(self._mirror(path) for path in sorted(self.folder.glob("*.jsonl")))

    def _mirror(self, path: Path) -> int:
        journal = read_journal(path)
        run = self._run(journal)
        known = int(str(run.data.tags.get(ROWS, 0)))
        fresh = journal.rows[known:]
        if fresh:
            for part in batched(_metrics(fresh), METRICS_AT_ONCE):
                self._client.log_batch(run.info.run_id, list(part))
            self._client.set_tag(run.info.run_id, ROWS, str(len(journal.rows)))
        self._set(run, "FINISHED" if journal.over else "RUNNING")
        return len(fresh)

    def _run(self, journal: Written) -> Any:
        """The MLflow run of a journal, made when there is none; the one that it replaces has then ended."""
        if self._client is None:
            self._client = quiet_mlflow().MlflowClient(self.uri)
        found = self._client.get_experiment_by_name(self.experiment)
        if found and found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        number = found.experiment_id if found else self._client.create_experiment(self.experiment)
        known = self._find(number, journal.run)
        if known is not None:
            return known
        replaced = self._find(number, journal.replaces)
        if replaced is not None and replaced.info.status == "RUNNING":
            self._set(replaced, "KILLED")
        return self._client.create_run(number, tags={RUN: journal.run, ROWS: "0"}, run_name=journal.label)

    def _find(self, number: str, identity: str | None) -> Any:
        """The MLflow run of the journal's run ``identity`` in the experiment ``number``; None where there is none."""
        runs = self._client.search_runs([number], f"tags.{RUN} = '{identity}'", max_results=1) if identity else []
        return runs[0] if runs else None

    def _set(self, run: Any, status: str) -> None:
        if run.info.status == status:
            return
        if status == "RUNNING":  # it goes on after its journal had ended
            self._client.update_run(run.info.run_id, status)
        else:
            self._client.set_terminated(run.info.run_id, status)


def _metrics(rows: list[Row]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    found = []
    for row in rows:
        step = int(row["step"] if "step" in row else row.get("env_steps", 0))
        numbers = {k: v for k, v in row.items() if k not in ("step", "env_steps") and isinstance(v, int | float)}
        found += [Metric(key, float(value), now, step) for key, value in numbers.items()]
    return found
