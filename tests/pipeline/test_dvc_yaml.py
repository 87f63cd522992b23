"""dvc.yaml names everything that a stage reads: modules, configuration sections, data; and a stage runs where it can."""

import subprocess
import sys

import pytest
import yaml
from closure import ROOT, expected_deps

from postbc.compose import SECTIONS

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_imports(stage):
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))}
    assert listed == expected_deps(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_script_of_its_name(stage):
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    # Without exec a shell such as dash stays between DVC and the stage, which then outlives DVC's death.
    assert STAGES[stage]["cmd"].split(" --")[0] == f"exec python -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_tracked_by_the_sections_it_reads(stage):
    """``config.<section>`` in a stage's script must be a tracked parameter, in params.yaml and in both presets."""
    script = (ROOT / "stages" / f"{stage}.py").read_text()
    read = {s for s in SECTIONS["task"] if f"config.{s}" in script} | ({"seed"} if "config.seed" in script else set())
    tracked = {p for p in STAGES[stage]["params"] if isinstance(p, str)}
    in_presets = {path: set(keys) for p in STAGES[stage]["params"] if isinstance(p, dict) for path, keys in p.items()}
    assert read - {"task"} <= tracked
    for group in (ROOT / "conf").iterdir():
        if group.is_dir():
            said = {section for path in group.glob("*.yaml") for section in yaml.safe_load(path.read_text())}
            wanted = (read - {"seed"}) & said
            found = in_presets.get(f"conf/{group.name}/${{{group.name}}}.yaml", set())
            assert wanted <= found, f"conf/{group.name}: {wanted - found}"


def test_a_preset_must_have_the_sections_that_dvc_tracks_in_its_folder():
    tracked: dict[str, set[str]] = {}
    for stage in STAGES.values():
        for path, sections in ((p, k) for one in stage["params"] if isinstance(one, dict) for p, k in one.items()):
            tracked.setdefault((ROOT / path).parent.name, set()).update(sections)
    assert tracked == SECTIONS


def test_a_stage_under_the_wrong_python_says_what_to_do():
    bare = [sys.executable, "-S", "-m", "stages.ingest"]  # without the environment's packages
    ended = subprocess.run(bare, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "source .venv/bin/activate" in ended.stderr and "Traceback" not in ended.stderr
