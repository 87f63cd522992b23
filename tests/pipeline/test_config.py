import shutil

import pytest
import yaml
from closure import ROOT

from postbc.compose import load_config
from postbc.errors import ConfigError


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("task", sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml")))
@pytest.mark.parametrize("size", ["default", "smoke"])
def test_every_combination_of_presets_composes(project, task, size):
    (project / "params.yaml").write_text(f"task: {task}\nsize: {size}\n")
    config = load_config(project)
    assert config.task.env.replace("/", "-") == task
    assert (config.evaluate.episodes >= 50) == (size == "default")


@pytest.mark.parametrize("preset", sorted((ROOT / "conf" / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_demonstrations_are_looked_for_where_dvc_watches(preset):
    assert yaml.safe_load(preset.read_text())["ingest"]["source"] == f"data/{preset.stem}"


@pytest.mark.parametrize("robot", sorted(path.stem for path in (ROOT / "conf" / "robot").glob("*.yaml")))
@pytest.mark.parametrize("protocol", sorted(path.stem for path in (ROOT / "conf" / "protocol").glob("*.yaml")))
@pytest.mark.parametrize("size", ["default", "smoke"])
def test_every_robot_goes_with_every_protocol(project, robot, protocol, size):
    chosen = f"task: so101_lift_marked\nrobot: {robot}\nprotocol: {protocol}\nsize: {size}\n"
    (project / "params.yaml").write_text(chosen)
    config = load_config(project)
    sim, own = config.finetune_sim, config.finetune_robot.finetune
    assert (sim.algorithm, sim.hidden, sim.layers) == (own.algorithm, own.hidden, own.layers)  # or it could not go on
    simulated = config.finetune_robot.robot.type == "postbc_twin"
    assert (config.finetune_robot.robot.arm == "simulated") == simulated
    assert simulated or config.finetune_robot.robot.guard.low is not None


def test_params_win_over_presets(project):
    (project / "params.yaml").write_text("task: lift\nsize: smoke\nposterior: {members: 17}\n")
    assert load_config(project).posterior.members == 17


LIFT = "task: lift\nsize: default\n"
DPPO = "finetune_sim: {algorithm: dppo, dppo: {steps: 8}}\nfinetune_robot: {finetune: {algorithm: dppo, dppo: {steps: 8}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: lift\nsize: default\npretrain: {alpha: -1}", "pretrain: alpha = -1"),
        ("task: lift\nsize: default\npretrain: {alpah: 1}", r"pretrain\.alpah"),
        ("task: lift\nsize: default\npretrain: {alpha: much}", "pretrain: alpha"),
        ("task: lift\nsize: default\nposterior: {members: 1}", "members"),
        ("task: fly\nsize: default", "fly.*lift, lift_wide, .*pusht"),
        ("task: ../../secret\nsize: default", "lift, lift_wide"),
        ("task: lift\nsize: default\nfinetune_robot: {finetune: {envs: 2}}", "one robot"),
        ("task: lift\nsize: default\nfinetune_robot: {robot: {arm: always}}", "arm"),
        ("task: lift\nsize: default\nseed: ${oc.env:HOME}", "seed"),
        ("task: lift\nsize: default\nfinetune_sim: {hidden: -1}", "finetune_sim, .*: hidden = -1"),
        (f"{LIFT}finetune_sim: {{algorithm: best_of_n}}", "algorithm must be the same in both"),
        (f"{LIFT}finetune_robot: {{finetune: {{discount: 0.9}}}}", "discount = 0.99 .*discount = 0.9 must be the same"),
        (f"{LIFT}{DPPO}pretrain: {{policy: cvae}}", "finetune_sim: dppo.*cvae policy has 0"),
        (f"{LIFT}{DPPO.replace('8', '9')}", "finetune_sim: dppo.*last 9.*has 8"),
        ("task: lift\nsize: default\npretrian: {alpha: 1}", "pretrian is no section; there is .*pretrain"),
        ("task: lift\nsize: default\nfinetune_sim.env_steps: 3000", "finetune_sim.env_steps is no section"),
        ("- a list", "params.yaml"),
    ],
)
def test_what_is_wrong_is_named(project, text, message):
    (project / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(project)


@pytest.mark.parametrize(
    "text",
    [
        "finetune_sim: {env_steps: 0, initial_steps: 0}\nfinetune_robot: {finetune: {discount: 0.9}}\n",
        "finetune_robot: {replay: false, finetune: {discount: 0.9}}\n",
        DPPO.replace("}}}", "}, discount: 0.9}}"),
    ],
)
def test_where_no_replay_is_gone_on_with_the_robots_discount_is_its_own(project, text):
    (project / "params.yaml").write_text(LIFT + text)
    config = load_config(project)
    assert (config.finetune_sim.discount, config.finetune_robot.finetune.discount) == (0.99, 0.9)


@pytest.mark.parametrize(
    ("folder", "old", "new", "message"),
    [
        ("task/lift", "register: {}\n", "", r"conf/task/lift.yaml lacks .*: add `register: \{\}`"),
        ("protocol/online", "finetune_sim: {}\n", "", r"conf/protocol/online.yaml lacks .*: add `finetune_sim: \{\}`"),
        ("task/lift", "  name: lift\n", "  name: cube\n", "task.name is cube; it must be the file's"),
        ("robot/twin", "finetune_robot:", "evaluate: {}\nfinetune_robot:", "would not see a change of evaluate there"),
    ],
)
def test_presets_that_dvc_would_misread_are_named_before_any_work(project, folder, old, new, message):
    preset = project / "conf" / f"{folder}.yaml"
    assert old in preset.read_text()
    preset.write_text(preset.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_config(project)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml is missing"):
        load_config(tmp_path)
