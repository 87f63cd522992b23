"""Fetching models, from Python, by the command, and as pyfuncs in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import config, make_critics, make_policy, make_run
from typer.testing import CliRunner

from postbc.cli import app
from postbc.errors import IntegrityError, RegistryError
from postbc.policies.folder import load_policy
from postbc.storage.journal import Journal
from postbc.storage.manifest import describe
from postbc.tracking.registry import Registry
from postbc.tracking.run import register_run

PREDICT = """
import json, sys
import mlflow, numpy as np
obs = np.zeros((2, 5), np.float32)
noise = np.zeros((2, 8), np.float32)
shapes = {}
for name, inputs in {"bc": {"obs": obs}, "posterior": {"obs": obs}, "bc-critics": {"obs": obs, "choice": noise}}.items():
    model = mlflow.pyfunc.load_model(f"models:/postbc-lift-{name}@champion")
    out = model.predict(inputs)
    out = out if isinstance(out, dict) else {"": out}
    shapes[name] = {key: [str(value.dtype), *value.shape] for key, value in out.items()}
    try:
        model.predict(inputs | {"obs": np.zeros((2, 6), np.float32)})
        shapes[name]["wrong"] = "taken"
    except mlflow.exceptions.MlflowException as error:
        assert "Shape of input (2, 6) does not match expected shape (-1, 5)" in str(error), error
print(json.dumps(shapes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, empty_database):
    """A registered run that tests only read."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copy(empty_database, folder / "mlflow.db")
    make_run(folder)
    return folder, register(folder)


def register(folder):
    register_run(folder, config())
    return Registry(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def registry(run):
    return run[1]


@pytest.fixture
def call(registry):
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments, "--tracking-uri", registry.uri])


def stored(root, name):
    """The files of one registered folder in the artifact store."""
    return sorted(root.glob(f"mlartifacts/postbc/models/*/artifacts/artifacts/{name}/model.safetensors"))


def test_pull_gives_exactly_the_policy_folder(run, tmp_path):
    root, registry = run
    row = registry.pull("postbc-lift-bc", "champion", tmp_path / "new" / "policy")
    assert row["life"] == "pretrained"
    assert describe(tmp_path / "new" / "policy") == describe(root / "artifacts/pretrained/bc")
    assert load_policy(tmp_path / "new" / "policy").obs_dim == 5


def test_pull_refuses_a_full_folder_and_leaves_it(registry, tmp_path):
    target = tmp_path / "full"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(RegistryError, match="is there already"):
        registry.pull("postbc-lift-bc", "champion", target)
    assert [p.name for p in target.iterdir()] == ["mine.txt"]


def test_pull_refuses_a_flipped_byte(root, tmp_path):
    registry = register(root)
    (path,) = stored(root, "bc")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"register the model again\. .*differs from the manifest") as refused:
        registry.pull("postbc-lift-bc", 1, tmp_path / "pulled")
    assert "dvc" not in str(refused.value)
    assert not (tmp_path / "pulled").exists()
    assert not list(tmp_path.glob(".pulled*"))


def test_pull_refuses_what_has_lost_its_manifest(root, tmp_path):
    registry = register(root)
    (path,) = stored(root, "bc")
    path.with_name("manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"register the model again\. .* has no manifest"):
        registry.pull("postbc-lift-bc", 1, tmp_path / "pulled")


def test_pull_refuses_another_model_in_its_place(root, tmp_path):
    registry = register(root)
    (path,) = stored(root, "bc")
    make_policy(path.parent, 1234)  # whole, with a manifest of its own
    with pytest.raises(IntegrityError, match="registered was"):
        registry.pull("postbc-lift-bc", 1, tmp_path / "pulled")


def test_a_registry_that_moved_is_still_read(root, tmp_path):
    register(root)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("mlflow.db", "mlartifacts"):
        (root / name).rename(moved / name)
    Registry(f"sqlite:///{moved}/mlflow.db").pull("postbc-lift-bc", "champion", tmp_path / "pulled")


def test_a_copied_project_registers_into_its_own_folder(root, tmp_path):
    register(root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    before = describe(root / "mlartifacts")
    make_critics(copy / "artifacts/finetuned_sim/bc/critics", 99)
    registry = register(copy)
    assert describe(root / "mlartifacts") == before
    assert len(describe(copy / "mlartifacts")) > len(before)
    for version in (1, 2):  # what was there, and what came
        registry.pull("postbc-lift-bc-critics", version, tmp_path / f"pulled{version}")


def test_an_experiment_that_was_deleted_in_mlflow_is_restored(root, tmp_path):
    client = register(root).client
    client.delete_experiment(client.get_experiment_by_name("postbc").experiment_id)
    make_critics(root / "artifacts/finetuned_sim/bc/critics", 99)
    register(root).pull("postbc-lift-bc-critics", 2, tmp_path / "pulled")


@pytest.mark.parametrize(
    "name, wanted", [("postbc-lift-bc", "best"), ("nothing", "champion"), ("postbc-lift-bc", "99")]
)
def test_unknown_models_are_named(registry, tmp_path, name, wanted):
    with pytest.raises(RegistryError, match=f"{name}@{wanted}"):
        registry.pull(name, wanted, tmp_path / "pulled")


def test_commands_list_pull_and_promote(call, tmp_path):
    listed = json.loads(call("list", "--json").stdout)
    assert len(listed) == 9
    assert {"name", "version", "aliases", "life", "success", "sha256", "created"} <= listed[0].keys()
    table = call("list").stdout
    assert "postbc-lift-postbc" in table and "champion" in table and "60.0 % (robot)" in table
    assert "version 2" in call("promote", "postbc-lift-bc/2", "--alias", "trial").stdout
    pulled = json.loads(call("pull", "models:/postbc-lift-bc@trial", str(tmp_path / "p"), "--json").stdout)
    assert pulled["version"] == 2 and (tmp_path / "p" / "config.json").is_file()


def test_a_users_mistakes_exit_with_2(call, tmp_path):
    for arguments in (("pull", "postbc-lift-bc@best", str(tmp_path / "p")), ("promote", "postbc-lift-bc")):
        outcome = call(*arguments)
        assert outcome.exit_code == 2 and outcome.stderr and not outcome.stdout
    outcome = CliRunner().invoke(app, ["models", "list", "--tracking-uri", f"sqlite:///{tmp_path}/none.db"])
    assert outcome.exit_code == 2 and "There is no registry" in outcome.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("command", [("models", "list"), ("watch", "--once")])
def test_a_registrys_password_is_not_shown(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:s3cr@t@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Journal(Path(".work/live/fit.jsonl")).begin([])
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 2
    assert "at http://127.0.0.1:9" in outcome.stderr
    assert "s3cr" not in outcome.output and "somebody" not in outcome.output


def test_pyfuncs_load_in_a_clean_process_without_pickle(registry):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": registry.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-W", "error::UserWarning:postbc", "-c", PREDICT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Add type hints" not in done.stderr
    assert json.loads(done.stdout) == {
        "bc": {"": ["float32", 2, 4, 2]},
        "posterior": {"mean": ["float32", 2, 8], "std": ["float32", 2, 8]},
        "bc-critics": {"": ["float32", 2]},
    }


def test_the_command_starts_without_the_heavy_imports():
    heavy = "{'mlflow', 'torch', 'hydra', 'matplotlib', 'lerobot'}"
    code = f"import sys, postbc.cli; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
