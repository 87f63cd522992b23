"""Lineage read from git and DVC files."""

import subprocess

import pytest
from tiny_run import LOCK

from postbc.errors import DataError
from postbc.reporting.lock import read_lock
from postbc.tracking.lineage import dvc_hashes, git_state


def git(root, *arguments):
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", root, *name, *arguments], check=True, capture_output=True)


def test_hashes_follow_the_stages_that_made_a_model(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "data.dvc").write_text("outs:\n- {md5: 55.dir, path: data}\n")
    found = dvc_hashes(tmp_path, "artifacts/pretrained/postbc")
    assert found["dvc.data/lift"].startswith("1111") and "dvc.data" not in found  # what was read, not what was added
    assert found["dvc.artifacts/dataset"].startswith("2222")
    assert found["dvc.artifacts/pretrained/postbc"].startswith("3333")
    assert "dvc.artifacts/pretrained/bc" not in found
    (tmp_path / "dvc.lock").write_text(LOCK.replace("seed: 0", "seed: 1"))
    assert dvc_hashes(tmp_path, "artifacts/pretrained/postbc")["dvc.params"] != found["dvc.params"]


def test_data_that_no_recorded_stage_read_is_what_was_added(tmp_path):
    (tmp_path / "data.dvc").write_text("outs:\n- {md5: 55.dir, path: data}\n")
    assert dvc_hashes(tmp_path, "artifacts/pretrained/bc")["dvc.data"] == "55.dir"


def test_a_run_without_dvc_has_no_hashes(tmp_path):
    assert dvc_hashes(tmp_path, "artifacts/pretrained/bc").keys() == {"dvc.params"}


def test_a_broken_lock_is_named(tmp_path):
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(DataError, match=r"dvc\.lock is not YAML"):
        read_lock(tmp_path)


def test_dirty_means_code_and_not_what_every_run_rewrites(tmp_path):
    assert git_state(tmp_path) == {"git_commit": "unknown", "git_dirty": "unknown"}
    git(tmp_path, "init", "-q")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "dvc.lock").write_text("b")
    assert git_state(tmp_path)["git_dirty"] == "false"
    (tmp_path / "code.py").write_text("b")
    assert git_state(tmp_path)["git_dirty"] == "true"
    assert len(git_state(tmp_path)["git_commit"]) == 40
