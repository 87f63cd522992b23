"""The Makefile and its scripts: the way to the demonstrations, with a real DVC; machines without GNU tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from closure import ROOT

PYTHON = Path(sys.executable).resolve()


def test_the_demonstrations_come_beside_those_that_were_not_added_yet(tmp_path):
    for name in (".dvc/config", "Makefile", "data.dvc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "data-remote", tmp_path / "data-remote")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    setup = tmp_path / "scripts" / "setup"
    setup.parent.mkdir()
    setup.write_text("#!/bin/sh\n")
    setup.chmod(0o755)
    mine, theirs = tmp_path / "data" / "can" / "mine.hdf5", tmp_path / "data" / "lift" / "demos.hdf5"
    mine.parent.mkdir(parents=True)
    mine.touch()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for _ in range(2):
        subprocess.run(["make", "data/lift"], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
        assert mine.is_file() and theirs.is_file()
        (theirs.parent / "mine.hdf5").touch()


def test_the_lock_is_checked_where_there_is_no_sha256sum(tmp_path):
    for tool in ("bash", "cut", "dirname", "env", "grep", "sed"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    digest = "print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), '-')"
    (tmp_path / "shasum").write_text(f"#!{sys.executable}\nimport hashlib, sys\n{digest}\n")
    (tmp_path / "shasum").chmod(0o755)
    subprocess.run([ROOT / "scripts" / "lock", "--check"], env={"PATH": str(tmp_path)}, check=True)


def test_an_environment_that_was_moved_is_made_anew(tmp_path):
    """Its commands name the interpreter by where it lay. uv is one that notes what it is asked for."""
    for name in ("requirements.lock", "pyproject.toml", "plugins", "scripts"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(
        f'#!/bin/sh\necho "$*" >> asked\n[ "$1" = venv ] && mkdir -p .venv/bin && ln -sf {PYTHON} .venv/bin/python || true\n'
    )
    uv.chmod(0o755)
    environment = {**os.environ, "PATH": os.pathsep.join((str(uv.parent), os.environ["PATH"]))}
    made = []
    for folder in (tmp_path, tmp_path, tmp_path.with_name("moved")):
        if not folder.exists():
            tmp_path.rename(folder)
            environment["PATH"] = environment["PATH"].replace(str(tmp_path), str(folder))
        subprocess.run([folder / "scripts" / "setup"], env=environment, check=True, capture_output=True)
        made.append((folder / "asked").read_text().count("venv "))
    assert made == [1, 1, 2]
