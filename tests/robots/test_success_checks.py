"""Success by features or by a reward classifier."""

import json
import os
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from people import NO_PAGE, person, preparing, until

from postbc.config.robot import OperatorConfig
from postbc.errors import ConfigError, RobotError
from postbc.robots.operator import Checks, Ranges, Verdict, make_checks
from postbc.robots.operator.desk import Phase

FEATURES = {"gripper.pos": float, "ee.z": float, "front": (48, 64, 3)}


def test_ranges_include_their_ends_and_nan_is_in_none():
    ranges = Ranges({"gripper.pos": [5, 60], "ee.z": [0.1, None]})
    assert ranges.check({"gripper.pos": 5.0, "ee.z": 0.1, "front": None})
    assert ranges.check({"gripper.pos": np.float32(60), "ee.z": 1e9})
    for gripper, height in ((4.9, 0.2), (60.1, 0.2), (30, 0.09), (np.nan, 0.2), (30, np.nan)):
        assert not ranges.check({"gripper.pos": gripper, "ee.z": height})
    with pytest.raises(RobotError, match=r"asks for ee\.z; the robot observed gripper\.pos"):
        ranges.check({"gripper.pos": 30})


def test_a_check_must_hold_in_a_row_and_then_stays():
    checks = Checks([Ranges({"x": [1, None]})], hold=3)
    seen = []
    for value in (1, 1, 0, 1, 1, 1, 0):
        checks.watch({"x": value})
        seen.append(checks.held)
    assert seen == [False] * 5 + [True] * 2
    checks.reset()
    assert not checks.held


class Slow:
    """A check that takes as long as it is told to."""

    def __init__(self):
        self.go, self.looked = threading.Semaphore(0), 0

    def check(self, observation):
        self.go.acquire()
        self.looked += 1
        return observation["x"] > 0


def test_a_slow_check_holds_up_nobody_and_forgets_the_last_episode():
    slow = Slow()
    checks = Checks([], 2, [slow])
    for value in range(1, 50):
        checks.watch({"x": value})
    slow.go.release()
    until(lambda: slow.looked == 1)
    checks.reset()  # while it looks at something of the first episode, or is about to
    slow.go.release(2)
    checks.watch({"x": 1})
    until(lambda: slow.looked >= 2)
    assert not checks.held
    slow.go.release(10)
    until(lambda: checks.watch({"x": 1}) or checks.held)
    slow.go.release(10)
    checks.close()


def test_an_error_of_a_slow_check_reaches_the_loop():
    checks = Checks([], 1, [Ranges({"x": [0, 1]})])
    with pytest.raises(RobotError, match="asks for x"):
        until(lambda: checks.watch({"y": 0}))
    checks.close()


def test_the_persons_word_wins_over_a_check(terminal):
    with person(NO_PAGE, terminal[1], checks=Checks([Ranges({"x": [1, None]})])) as operator:
        for word, verdict in ((None, Verdict.SUCCESS), (b"f", Verdict.FAILURE)):
            operator.desk._phase = Phase.IDLE
            waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
            os.write(terminal[0], b"\n")
            assert waiting.end() is None
            operator.watch({"x": 0})
            assert operator.verdict() is None
            if word:
                os.write(terminal[0], word)
                until(operator.verdict)
            operator.watch({"x": 1})
            assert operator.verdict() is verdict


def test_checks_name_what_the_robot_does_not_observe():
    assert make_checks(OperatorConfig(), FEATURES).parts == []
    assert len(make_checks(OperatorConfig(success_when={"ee.z": [0, 1]}), FEATURES).parts) == 1
    for name in ("ee.x", "front"):
        with pytest.raises(ConfigError, match=rf"names {name}; .* are gripper\.pos, ee\.z"):
            make_checks(OperatorConfig(success_when={name: [0, 1]}), FEATURES)


def _classifier_folder(tmp_path, **changes):
    config = {
        "type": "reward_classifier",
        "num_classes": 2,
        "input_features": {"observation.images.front": {"type": "VISUAL", "shape": [3, 128, 128]}},
    }
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    return OperatorConfig(reward_classifier=str(tmp_path))


def test_a_reward_classifier_needs_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("postbc.robots.operator.classifier.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"`make setup` .*extra transformers-dep"):
        make_checks(_classifier_folder(tmp_path), FEATURES)


def test_a_folder_that_is_no_classifier_of_this_robots_cameras_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no folder of a LeRobot model"):
        make_checks(OperatorConfig(reward_classifier=str(tmp_path / "nowhere")), FEATURES)
    with pytest.raises(ConfigError, match="not a LeRobot reward classifier"):
        make_checks(_classifier_folder(tmp_path, type="act"), FEATURES)
    with pytest.raises(ConfigError, match="reads the cameras front; the robot has none"):
        make_checks(_classifier_folder(tmp_path), {"ee.z": float})


def test_a_real_reward_classifier_says_what_lerobot_says(tmp_path):
    import torch
    import transformers
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig
    from lerobot.rewards.classifier.modeling_classifier import Classifier
    from lerobot.rewards.classifier.processor_classifier import make_classifier_processor
    from safetensors.torch import load_file, save_file

    encoder = transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8], depths=[1, 1, 1], layer_type="basic")
    )
    encoder.save_pretrained(tmp_path / "encoder")
    camera = {"observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 64, 64))}
    config = RewardClassifierConfig(
        input_features=camera,
        model_name=str(tmp_path / "encoder"),
        num_cameras=1,
        hidden_dim=8,
        latent_dim=8,
        device="cpu",
    )
    model = Classifier(config).eval()
    model.save_pretrained(tmp_path / "model")
    stats = {"observation.images.front": {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}}
    make_classifier_processor(config, stats)[0].save_pretrained(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    ready = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    expected = model.predict([ready]).probabilities.item()
    asked = OperatorConfig(reward_classifier=str(tmp_path / "model"), success_hold=1)
    for threshold, done in ((expected - 1e-3, True), (expected + 1e-3, False)):
        checks = make_checks(replace(asked, reward_threshold=threshold), {"front": (64, 64, 3)})
        check = checks.parts[0].check
        assert check.probability({"front": image, "ee.z": 0.0}) == pytest.approx(expected, abs=1e-5)
        assert check.check({"front": image}) is done
        checks.close()
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["classifier_head.0.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks 1 of its weights, classifier_head\.0\.weight"):
        make_checks(asked, {"front": (64, 64, 3)})
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"encoder that config.json names must be on this machine"):
        make_checks(asked, {"front": (64, 64, 3)})
