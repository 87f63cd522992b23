"""The Makefile's way to the demonstrations, with a real DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from closure import ROOT


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
