"""A run registered into a real SQLite registry: versions, aliases, idempotence, restoration."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_run import config, make_critics, make_evaluation, make_policy

from postbc.config import FinetuneConfig, FinetuneRobotConfig, PosteriorConfig, RegisterConfig
from postbc.config.robot import GuardConfig, RobotConfig
from postbc.errors import DataError, IntegrityError
from postbc.tracking.registry import Registry
from postbc.tracking.run import register_run


def registry(root):
    return Registry(f"sqlite:///{root}/mlflow.db")


def by_alias(rows, alias):
    return {row["name"]: row["life"] for row in rows if alias in row["aliases"]}


def counts(root):
    client = registry(root).client
    experiment = client.get_experiment_by_name("postbc").experiment_id
    return len(client.search_model_versions()), len(client.search_runs([experiment]))


def test_a_run_becomes_versions_with_aliases_and_lineage(root):
    rows = register_run(root, config())
    names = {row["name"] for row in rows}
    assert names == {f"postbc-lift-{kind}" for kind in ("posterior", "bc", "postbc", "bc-critics", "postbc-critics")}
    assert [row["life"] for row in rows if row["name"] == "postbc-lift-bc"] == [
        "pretrained",
        "finetuned_sim",
        "finetuned_robot",
    ]
    champions = by_alias(rows, "champion")  # on the robot: bc 0.3 > 0.2 > 0.1; postbc 0.6 twice, fewer steps first
    assert champions["postbc-lift-bc"] == "pretrained"
    assert champions["postbc-lift-postbc"] == champions["postbc-lift-postbc-critics"] == "finetuned_sim"
    assert by_alias(rows, "candidate")["postbc-lift-postbc"] == "finetuned_robot"
    version = registry(root).version("postbc-lift-postbc", 1)
    assert version.tags["dvc.artifacts/pretrained/postbc"].startswith("3333")
    assert version.tags["stage"] == "pretrain" and version.tags["task"] == "lift"
    assert {"git_commit", "git_dirty", "dvc.data/lift", "dvc.params"} <= version.tags.keys()
    metrics = {m.key: m.value for m in registry(root).client.get_logged_model(version.tags["model_id"]).metrics}
    assert metrics["simulator.success"] == 0.5 and metrics["robot.low"] == pytest.approx(0.1)


def test_training_curves_are_metrics_with_steps(root):
    (root / "plots").mkdir()
    lines = [f"{step},{1 / (1 + step)},{step / 7 if step % 2 else ''}" for step in range(1200)]
    (root / "plots" / "pretrain.bc.csv").write_text("\n".join(["step,loss,validation", *lines]) + "\n")
    (root / "plots" / "finetune_sim.postbc.csv").write_text("env_steps,success\n0,0.5\n4000,0.75\n")
    (root / "plots" / "pretrain.sigma_bc.csv").write_text("step,loss\n0,0.5\n")  # of an earlier run
    (root / "plots" / "actions.csv").write_text("state,who,action_0\ntypical,bc,0.5\n")
    register_run(root, config())
    client = registry(root).client
    (run,) = client.search_runs([client.get_experiment_by_name("postbc").experiment_id])
    history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    assert sorted((m.step, m.value) for m in history["finetune_sim.postbc.success"]) == [(0, 0.5), (4000, 0.75)]
    assert {m.step: m.value for m in history["pretrain.bc.loss"]} == {s: 1 / (1 + s) for s in range(1200)}
    assert len(history["pretrain.bc.validation"]) == 600
    assert not [key for key in history if key.startswith("actions") or "sigma_bc" in key]


def test_a_rerun_adds_nothing_and_moves_nothing(root):
    rows = register_run(root, config())
    before = counts(root)
    assert register_run(root, config()) == rows
    assert counts(root) == before == (9, 1)
    registry(root).promote("postbc-lift-bc", 2)
    assert by_alias(register_run(root, config()), "champion")["postbc-lift-bc"] == "finetuned_sim"


def test_a_new_evaluation_adds_a_run_and_chooses_again(root):
    register_run(root, config())
    make_evaluation(root, pretrained={"bc": 0.9}, finetuned_sim={"bc": 0.95, "postbc": 0.1})
    rows = register_run(root, config())
    assert counts(root) == (9, 2)
    listed = {(r["name"], r["version"]): r for r in registry(root).list_models()}
    assert listed["postbc-lift-bc", 2]["success"] == 0.95
    assert listed["postbc-lift-bc", 2]["evaluated"] == "simulator"
    assert by_alias(rows, "champion")["postbc-lift-bc"] == "finetuned_sim"


def test_new_weights_compete_with_the_old_ones_under_the_same_setting(root):
    register_run(root, config())
    make_policy(root / "artifacts/pretrained/bc", 99)
    make_evaluation(root, pretrained={"bc": 0.2}, pretrained_on_robot={"bc": 0.2})
    rows = register_run(root, config())
    assert "champion" not in next(r for r in rows if r["name"] == "postbc-lift-bc" and r["version"] == 4)["aliases"]
    assert registry(root).aliases("postbc-lift-bc")["champion"] == 1
    harder = config(posterior=PosteriorConfig(members=3))
    harder = replace(harder, task=replace(harder.task, max_steps=10))  # another task: old results say nothing of it
    rows = register_run(root, harder)
    assert by_alias(rows, "champion")["postbc-lift-bc"] == "pretrained"


def test_results_of_other_weights_are_refused(root):
    make_policy(root / "artifacts/finetuned_sim/bc/policy", 99)
    with pytest.raises(DataError, match=r"another policy than .*finetuned_sim/bc/policy, .*: run `dvc repro`"):
        register_run(root, config())
    assert not (root / "mlartifacts").exists()


def test_going_back_to_an_earlier_setting_brings_back_its_results(root):
    before = root / "metrics/evaluation.json"
    first, kept = register_run(root, config()), before.read_text()
    hard = FinetuneRobotConfig(robot=RobotConfig(options={"mass": 3}), finetune=FinetuneConfig(envs=1))
    make_evaluation(root, finetuned_robot={"bc": 0.05, "postbc": 0.9})
    assert by_alias(register_run(root, config(finetune_robot=hard)), "champion")["postbc-lift-bc"] == "finetuned_robot"
    before.write_text(kept)
    assert register_run(root, config()) == first
    tags = registry(root).version("postbc-lift-bc", 3).tags
    assert float(tags["robot.success"]) == 0.1 and counts(root) == (9, 2)


def test_critics_stay_with_their_policys_champion(root):
    register_run(root, config())
    make_policy(root / "artifacts/finetuned_sim/postbc/policy", 98)
    make_critics(root / "artifacts/finetuned_sim/postbc/critics", 7)
    make_evaluation(root, finetuned_sim={"postbc": 0.1}, finetuned_sim_on_robot={"postbc": 0.1})
    register_run(root, config())
    aliases = {name: registry(root).aliases(f"postbc-lift-{name}") for name in ("postbc", "postbc-critics")}
    assert aliases["postbc"]["champion"] < aliases["postbc"]["candidate"]
    assert aliases["postbc-critics"] == {"champion": 1, "candidate": 2}


def test_results_of_another_simulator_do_not_compete(root):
    register_run(root, config())
    make_evaluation(root, simulator={"robosuite": "2"}, pretrained={"bc": 0.2}, pretrained_on_robot={"bc": 0.2})
    assert by_alias(register_run(root, config()), "champion")["postbc-lift-bc"] == "pretrained"


@pytest.mark.parametrize(
    ("robots", "champion"),
    [
        ((RobotConfig(), RobotConfig(guard=GuardConfig(max_step=[0.1]))), 4),  # alone under its setting
        ([RobotConfig("so101_follower", {"port": port}) for port in "ab"], 1),
    ],
)
def test_limits_tell_twins_apart_and_ports_do_not_tell_arms_apart(root, robots, champion):
    for robot, success in zip(robots, (0.9, 0.3), strict=True):
        make_policy(root / "artifacts/pretrained/bc", round(100 * success))
        make_evaluation(root, pretrained={"bc": success})
        used = FinetuneRobotConfig(robot=robot, finetune=FinetuneConfig(envs=1))
        register_run(root, config(finetune_robot=used))
    assert registry(root).aliases("postbc-lift-bc")["champion"] == champion


def test_a_lost_database_is_restored(root, empty_database):
    rows = register_run(root, config())
    shutil.copy(empty_database, root / "mlflow.db")
    assert register_run(root, config()) == rows


def test_lost_artifacts_are_stored_again(root, tmp_path):
    register_run(root, config())
    shutil.rmtree(root / "mlartifacts")
    rows = register_run(root, config())
    row = next(r for r in rows if r["name"] == "postbc-lift-bc")
    registry(root).pull(row["name"], row["version"], tmp_path / "pulled")


def test_a_champion_whose_artifacts_are_lost_gives_way(root, tmp_path):
    register_run(root, config())
    shutil.rmtree(root / "mlartifacts")
    make_policy(root / "artifacts/pretrained/bc", 99)
    make_evaluation(root, pretrained={"bc": 0.2}, pretrained_on_robot={"bc": 0.2})
    register_run(root, config())
    registry(root).pull("postbc-lift-bc", "champion", tmp_path / "pulled")


def test_a_model_that_was_deleted_in_mlflow_is_stored_again(root, tmp_path):
    register_run(root, config())
    known = registry(root)
    known.client.delete_logged_model(known.version("postbc-lift-bc", 1).tags["model_id"])
    rows = register_run(root, config())
    version = next(r["version"] for r in rows if (r["name"], r["life"]) == ("postbc-lift-bc", "pretrained"))
    assert version == 4
    registry(root).pull("postbc-lift-bc", version, tmp_path / "pulled")


def test_artifacts_in_a_bucket_are_looked_for_there(root):
    client = registry(root).client
    experiment = client.create_experiment("elsewhere", artifact_location="s3://bucket/1")
    model = client.create_logged_model(experiment, "m")
    version = SimpleNamespace(tags={"model_id": model.model_id, "folder": "artifacts/policy"})
    assert registry(root)._location(version) == f"s3://bucket/1/models/{model.model_id}/artifacts/artifacts/policy"


def test_altered_bytes_are_refused(root):
    path = root / "artifacts/pretrained/bc/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="differs from the manifest"):
        register_run(root, config())


def test_nothing_to_register_is_said(tmp_path):
    make_evaluation(tmp_path, pretrained={"bc": 0.5})
    with pytest.raises(DataError, match="holds no model"):
        register_run(tmp_path, config(register=RegisterConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")))


def test_the_environment_overrides_the_configured_registry(root, monkeypatch):
    other = root / "elsewhere"
    other.mkdir()
    shutil.copy(root / "mlflow.db", other / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}/mlflow.db")
    register_run(root, config())
    assert (other / "mlartifacts").is_dir() and not (root / "mlartifacts").exists()
