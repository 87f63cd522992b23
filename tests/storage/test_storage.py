import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from postbc.errors import IntegrityError
from postbc.storage.atomic import atomic_folder, atomic_write, write_csv
from postbc.storage.checkpoint import Checkpoints, flatten, unflatten
from postbc.storage.manifest import NAME, check_manifest, fingerprint, write_manifest


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "file"
    atomic_write(target, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        atomic_write(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as building:
        (building / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as building:
        (building / "a").write_text("new")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (target / "a").read_text() == "old"


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "add"])
def test_the_manifest_notices_every_change(tmp_path, harm):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "data.bin"
    file.write_bytes(bytes(range(256)))
    write_manifest(tmp_path)
    check_manifest(tmp_path)
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    actions = {
        "flip": lambda: file.write_bytes(data),
        "truncate": lambda: file.write_bytes(data[:-1]),
        "delete": file.unlink,
        "add": lambda: (tmp_path / "more").write_text("x"),
    }
    actions[harm]()
    with pytest.raises(IntegrityError, match="more" if harm == "add" else r"data\.bin"):
        check_manifest(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(IntegrityError, match="never finished"):
        fingerprint(tmp_path)
    with pytest.raises(IntegrityError, match="never finished"):
        check_manifest(tmp_path)


def test_what_to_do_about_damage_restores_it_and_leaves_what_dvc_does_not_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, recorded = Path("artifacts/made/policy of bc"), Path("data/recorded")
    for place in (folder, recorded):
        place.mkdir(parents=True)
        (place / "weights").write_text("good")
    write_manifest(folder)
    dvc = [sys.executable, "-m", "dvc"]
    for arguments in (["init", "--quiet", "--no-scm"], ["add", "--quiet", "artifacts/made", "data"]):
        subprocess.run([*dvc, *arguments], check=True)
    (recorded / "later").write_text("not added yet")
    (folder / "weights").write_text("bad")
    with pytest.raises(IntegrityError) as error:
        check_manifest(folder)
    advice = re.search(r"`dvc (checkout .*?)`", str(error.value))
    subprocess.run([*dvc, *shlex.split(advice[1])], check=True)
    check_manifest(folder)
    assert (recorded / "later").is_file()


def test_a_damaged_checkpoint_is_to_be_deleted(tmp_path):
    Checkpoints(tmp_path / ".work" / "fit", "mine").save({"step": 3})
    (tmp_path / ".work" / "fit" / "state.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"Delete the folder .*fit and run `dvc repro`\.$"):
        Checkpoints(tmp_path / ".work" / "fit", "mine").load()


def test_a_checkpoint_comes_back_exactly_and_only_to_its_own_run(tmp_path):
    state = {"a": {"b": torch.randn(3), 0: torch.arange(2)}, "step": 7, "rows": [{"x": 1.5}]}
    Checkpoints(tmp_path / "c", "me").save(state)
    loaded = Checkpoints(tmp_path / "c", "me").load()
    assert loaded["step"] == 7
    assert loaded["rows"] == [{"x": 1.5}]
    assert torch.equal(loaded["a"]["b"], state["a"]["b"])
    assert torch.equal(loaded["a"][0], state["a"][0])
    assert Checkpoints(tmp_path / "c", "somebody else").load() is None
    weights = tmp_path / "c" / "state.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError):
        Checkpoints(tmp_path / "c", "me").load()


def test_a_damaged_checkpoint_leaves_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", "me")
    for step in range(3):
        checkpoints.save({"weights": torch.full((3,), float(step)), "step": step})
    assert checkpoints.load()["step"] == 2
    (tmp_path / "c" / "state.json").write_text("{")
    assert checkpoints.load()["step"] == 1
    shutil.rmtree(tmp_path / "c")  # killed between putting the old one aside and writing the new one
    assert checkpoints.load()["step"] == 1
    (tmp_path / "c.previous" / "state.safetensors").write_bytes(b"")
    with pytest.raises(IntegrityError):
        checkpoints.load()
    checkpoints.clear()
    assert list(tmp_path.iterdir()) == []
    assert checkpoints.load() is None


def test_a_damaged_checkpoint_does_not_push_out_the_whole_one_before_it(tmp_path):
    Checkpoints(tmp_path / "c", "me").save({"step": 1})
    Checkpoints(tmp_path / "c", "me").save({"step": 2})
    (tmp_path / "c" / "state.json").write_text("{")
    resumed = Checkpoints(tmp_path / "c", "me")
    assert resumed.load()["step"] == 1
    resumed.save({"step": 2})
    (tmp_path / "c" / "state.json").write_text("{")  # the disk goes on failing
    assert Checkpoints(tmp_path / "c", "me").load()["step"] == 1


def test_a_precious_checkpoint_of_another_run_is_put_aside_and_can_be_gone_on_with(tmp_path, caplog):
    before = Checkpoints(tmp_path / "c", "before")
    for step in range(2):
        before.save({"step": step})
    now = Checkpoints(tmp_path / "c", "now", precious=True)
    assert now.load() is None
    assert f"{tmp_path / 'c'} is of a run with other settings" in caplog.text
    assert Checkpoints(tmp_path / "c", "before").load()["step"] == 1  # until this run has one of its own
    for step in range(3):
        now.save({"step": 10 + step})
    now.clear()
    aside = sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
    assert len(aside) == 2
    assert all(path.name in caplog.text for path in aside)
    assert [Checkpoints(path, "before").load()["step"] for path in aside] == [1, 0]


keys = st.text("abc", min_size=1, max_size=3) | st.integers(0, 9)
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3), max_leaves=6)


@given(st.dictionaries(keys, trees, min_size=1))
def test_flattening_is_undone(tree):
    tensors, values = flatten(tree)
    assert not tensors
    assert unflatten(values) == tree


def test_csv_has_every_column(tmp_path):
    write_csv(tmp_path / "x.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,\n2,3\n"
