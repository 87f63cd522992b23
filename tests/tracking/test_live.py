"""Runs in progress in a real MLflow."""

import json
import shutil

import pytest
from toy import make_frames, toy_episode

from postbc.config import Method, PretrainConfig
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.journal import Journal, read_journal
from postbc.tracking.client import quiet_mlflow
from postbc.tracking.live import Live

CONFIG = PretrainConfig(hidden=16, layers=1, denoising_steps=10, inference_steps=2, steps=200, batch=16)


@pytest.fixture
def live(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Live(tmp_path / "live", f"sqlite:///{tmp_path}/mlflow.db", "postbc-live")


def statuses(live):
    """Status of every run, in the order of their starts."""
    client = quiet_mlflow().MlflowClient(live.uri)
    experiment = client.get_experiment_by_name("postbc-live").experiment_id
    return [run.info.status for run in client.search_runs([experiment], order_by=["attributes.start_time ASC"])]


def histories(live):
    """Run name → metric → [(step, value)]."""
    client = quiet_mlflow().MlflowClient(live.uri)
    experiment = client.get_experiment_by_name("postbc-live").experiment_id
    found = []
    for run in client.search_runs([experiment]):
        points = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        found.append((run.info.run_name, {k: sorted((m.step, m.value) for m in v) for k, v in points.items()}))
    return found


def test_a_training_is_seen_while_it_runs(live, tmp_path, monkeypatch):
    journal, seen = Journal(tmp_path / "live" / "pretrain.bc.jsonl"), []
    add = Journal.add

    def watched(self, row):
        add(self, row)
        if len(seen) < 3:
            seen.append(live.mirror())

    monkeypatch.setattr(Journal, "add", watched)
    targets = Targets(make_frames([toy_episode(n) for n in range(4)]), 2, Method.BC)
    _, rows = pretrain(targets, CONFIG, 0, Checkpoints(tmp_path / "c", "x"), None, journal)
    assert seen == [1, 1, 1]
    assert statuses(live) == ["RUNNING"]
    assert live.mirror() == len(rows) - 3
    assert live.mirror() == 0
    assert statuses(live) == ["FINISHED"]
    assert histories(live) == [("pretrain.bc", {"loss": [(row["step"], row["loss"]) for row in rows]})]


def test_a_resumed_run_goes_on_and_a_new_one_is_new(live, tmp_path):
    path = tmp_path / "live" / "finetune_sim.bc.jsonl"
    journal = Journal(path)
    journal.begin([])
    rows = [{"env_steps": 100 * k, "success": k / 10, "note": "not a number"} for k in range(4)]
    for row in rows[:3]:
        journal.add(row)
    first = read_journal(path).run
    assert live.mirror() == 3
    journal.begin(rows[:3])
    journal.add(rows[3])
    with path.open("a") as file:
        file.write('{"env_steps": 4')  # still being written
    assert read_journal(path)[:4] == (first, "finetune_sim.bc", None, rows)
    assert live.mirror() == 1
    assert histories(live) == [("finetune_sim.bc", {"success": [(100 * k, k / 10) for k in range(4)]})]
    journal.begin([])
    journal.add(rows[0])
    second = read_journal(path).run
    assert second != first
    assert live.mirror() == 1
    assert statuses(live) == ["KILLED", "RUNNING"]
    journal.end()
    assert live.mirror() == 0
    assert statuses(live) == ["KILLED", "FINISHED"]
    journal.begin(rows[:1])  # killed between its end and that of its stage
    assert live.mirror() == 0
    assert statuses(live) == ["KILLED", "RUNNING"]
    assert read_journal(path)[:3] == (second, "finetune_sim.bc", first)
    assert json.loads(path.read_text().splitlines()[0])["label"] == "finetune_sim.bc"
