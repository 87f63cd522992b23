"""dvc.yaml names everything that a stage reads: modules, configuration sections, data."""

import pytest
import yaml
from closure import ROOT, expected_deps

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PRESETS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf").glob("*/*.yaml"))]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_imports(stage):
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))}
    assert listed == expected_deps(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_script_of_its_name(stage):
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    assert f"python -m stages.{stage}" in STAGES[stage]["cmd"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_tracked_by_the_sections_it_reads(stage):
    """``config.<section>`` in a stage's script must be a tracked parameter, in params.yaml and in both presets."""
    script = (ROOT / "stages" / f"{stage}.py").read_text()
    read = {s for s in PRESETS[0] if f"config.{s}" in script} | ({"seed"} if "config.seed" in script else set())
    tracked = {p for p in STAGES[stage]["params"] if isinstance(p, str)}
    in_presets = [set(keys) for p in STAGES[stage]["params"] if isinstance(p, dict) for keys in p.values()]
    assert read - {"task"} <= tracked
    assert all(read - {"seed", "task"} <= keys for keys in in_presets)
    assert "task" not in read or any("task" in keys for keys in in_presets)


def test_every_preset_has_every_section_so_that_dvc_can_track_it():
    sections = {k for s in STAGES.values() for p in s["params"] if isinstance(p, dict) for v in p.values() for k in v}
    for preset in PRESETS:
        assert sections - {"task"} <= preset.keys() or "task" in preset
