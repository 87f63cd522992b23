"""The whole chain, at the smoke size, as a user runs it: dvc repro in a clone."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from closure import ROOT

from postbc.demos.store import read_store
from postbc.policies.folder import load_policy
from postbc.storage.manifest import check_manifest

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(600)]
POLICY_LIVES = {"pretrained", "pretrained_zero", "finetuned_sim", "finetuned_robot"}
STAGES = {"ingest", "convert", "posterior", "pretrain", "finetune_sim", "finetune_robot", "evaluate", "report"}


class Project:
    """A clone of this working tree, with commands."""

    def __init__(self, root):
        self.root = root
        bin_folder = os.path.dirname(sys.executable)  # noqa: PTH120
        self.env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "160"}
        self.env["PYTHONPATH"] = str(root / "src")  # its own source, not that of the tree under test
        self.env.pop("MLFLOW_TRACKING_URI", None)

    def run(self, *command, expect=0):
        done = subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False, timeout=500
        )
        assert done.returncode == expect, f"{command} gave {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        return done.stdout + done.stderr

    def repro(self, *targets):
        """Names of the stages that ran, matrix members by their base name."""
        ran = re.findall(r"Running stage '(\w+)", self.run("dvc", "repro", *targets))
        return set(ran)

    def edit(self, path, old, new):
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("chain") / "project"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    project = Project(root)
    for left_over in ("dvc.lock", "metrics", "plots"):
        shutil.rmtree(root / left_over, ignore_errors=True) if (root / left_over).is_dir() else (
            (root / left_over).unlink(missing_ok=True)
        )
    project.edit("params.yaml", "size: default", "size: smoke")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "clone"]):
        project.run("git", *command)
    project.run("dvc", "pull", "-q", "data.dvc")
    assert project.repro() == STAGES | {"register"}
    return project


def test_every_artifact_is_whole(chain):
    artifacts = chain.root / "artifacts"
    for folder in ("dataset", "posterior", "pretrained/bc", "pretrained/postbc"):
        check_manifest(artifacts / folder)
    for stage in ("finetuned_sim", "finetuned_robot"):
        for method in ("bc", "postbc"):
            assert load_policy(artifacts / stage / method / "policy").latent == "steered"
            check_manifest(artifacts / stage / method / "critics")
    assert len(list(read_store(artifacts / "demos"))) == 6
    recorded = list(read_store(artifacts / "recordings" / "lift" / "postbc"))
    assert sum(map(len, recorded)) >= 240
    assert {episode.facts["operator"] for episode in recorded} == {"simulated"}
    videos = {path.stem for path in (artifacts / "videos").glob("*.mp4")}
    assert (
        videos == {f"{life}.{method}" for life in POLICY_LIVES for method in ("bc", "postbc")}
        or (artifacts / "videos" / "README.txt").is_file()
    )


def test_every_life_is_evaluated_with_its_interval(chain):
    table = json.loads((chain.root / "metrics" / "evaluation.json").read_text())
    assert table.keys() >= POLICY_LIVES
    for life in POLICY_LIVES:
        for method in ("bc", "postbc"):
            row = table[life][method]
            assert row["episodes"] == 2
            assert 0 <= row["low"] <= row["success"] <= row["high"] <= 1
    assert table["finetuned_robot"]["bc"]["env_steps"] >= 640
    assert "pretrained" in table["difference"]
    assert "finetuned_sim" in chain.run("dvc", "metrics", "show")


def test_the_report_needs_no_network(chain):
    page = (chain.root / "reports" / "index.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert page.count("data:video/mp4;base64,") in (0, 8)
    assert "data:image/png;base64," in page


def test_registered_models_are_listed_pulled_and_run_by_lerobot(chain):
    names = {row["name"] for row in json.loads(_json(chain))}
    assert {"postbc-lift-bc", "postbc-lift-postbc", "postbc-lift-posterior", "postbc-lift-postbc-critics"} <= names
    chain.run("postbc", "models", "pull", "postbc-lift-postbc@champion", "pulled")
    check_manifest(chain.root / "pulled")
    chain.env["HF_HUB_OFFLINE"] = "1"
    chain.run(
        "lerobot-eval", "--policy.path=pulled", "--policy.device=cpu", "--env.type=postbc", "--env.task=lift",
        "--env.episode_length=8", "--eval.n_episodes=1", "--eval.batch_size=1", "--output_dir=evaluated",
    )  # fmt: skip
    info = json.loads((chain.root / "evaluated" / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 1


def _json(chain):
    command = ["postbc", "models", "list", "--json"]
    return subprocess.run(command, cwd=chain.root, env=chain.env, capture_output=True, text=True, check=True).stdout


def test_without_arming_the_robot_stage_refuses(chain):
    # Another session than the one that is over.
    asked = "finetune_robot: {robot: {arm: token}, finetune: {learning_rate: 0.0002}}"
    chain.edit("params.yaml", "finetune_robot: {}", asked)
    try:
        said = chain.run(sys.executable, "-m", "stages.finetune_robot", "--method", "bc", expect=2)
        assert "postbc robot arm" in said
        chain.run("postbc", "robot", "arm", "bc", "--operator", "Ada")
        assert len(list((chain.root / ".work" / "arming").glob("*.json"))) == 1
    finally:
        chain.edit("params.yaml", asked, "finetune_robot: {}")


def test_a_cached_chain_restores_a_deleted_registry_and_does_nothing_else(chain):
    versions = {(r["name"], r["sha256"]) for r in json.loads(_json(chain))}
    (chain.root / "mlflow.db").unlink()
    shutil.rmtree(chain.root / "mlartifacts")
    assert chain.repro() == {"register"}
    assert {(r["name"], r["sha256"]) for r in json.loads(_json(chain))} == versions


EDITS = {
    "report": ("src/postbc/reporting/words.py", {"register", "report"}),
    "robot": ("src/postbc/robots/guard.py", {"finetune_robot", "evaluate", "register"}),
    "evaluate only": ("stages/evaluate.py", {"evaluate", "register"}),
    "posterior": ("src/postbc/posterior/factors.py", {"posterior", "pretrain", "evaluate", "register"}),
    "alpha": ("params.yaml", {"pretrain", "register"}),
    "the robot's preset": ("conf/robot/twin.yaml", {"finetune_robot", "evaluate", "register"}),
    "another robot": ("conf/robot/so101.yaml", {"register"}),
    "the other size": ("conf/size/default.yaml", {"register"}),
    "the other task": ("conf/task/pusht.yaml", {"register"}),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_touches_exactly_the_stages_that_depend_on_it(chain, what):
    """Direct dependents, as `dvc status` names them; `register` always runs. What follows from their outputs is DVC's."""
    path, expected = EDITS[what]
    old = (chain.root / path).read_text()
    edits = {"params.yaml": ("alpha: 1.0", "alpha: 0.7"), "conf/robot/twin.yaml": ("mass: 1.5", "mass: 1.6")}
    new = old.replace(*edits[path]) if path in edits else old + "\n# edited\n"
    (chain.root / path).write_text(new)
    try:
        changed = json.loads(chain.run("dvc", "status", "--json").strip().splitlines()[-1])
        assert {name.split("@")[0] for name in changed} == expected
    finally:
        (chain.root / path).write_text(old)


def test_an_edited_report_is_rebuilt_alone(chain):
    chain.edit("src/postbc/reporting/page.html.j2", "<title>", "<title>Edited ")
    assert chain.repro() == {"register", "report"}
    assert "<title>Edited " in (chain.root / "reports" / "index.html").read_text()
    chain.edit("src/postbc/reporting/page.html.j2", "<title>Edited ", "<title>")
