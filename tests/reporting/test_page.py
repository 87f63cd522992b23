"""The report page: complete, self-contained, the same bytes for the same run, and honest in its words."""

import base64
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_run import DIFFERENCES, ROWS, config, make_run, wilson, write_curve, write_evaluation
from rich.console import Console

from postbc.errors import DataError
from postbc.reporting.page import build_page
from postbc.reporting.results import read_curve
from postbc.reporting.table import terminal_table

VOID = {"meta", "img", "br", "link", "input"}


@pytest.fixture
def root(tmp_path):
    make_run(tmp_path)
    return tmp_path


class Balanced(HTMLParser):
    """Fails when an element is closed that is not the last one opened."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, k, v) for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, k, v) for k, v in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_every_number_is_there(root):
    page = text_of(build_page(root, config()))
    for bc, postbc, steps in ROWS.values():
        for count in (bc, postbc):
            low, high = wilson(count, 50)
            reward = round(0.5 + count / 137, 3)
            row = f"{2 * count:.1f} % {100 * low:.1f} to {100 * high:.1f} % 50 {steps:,} {reward:.3f}"
            assert row in page
    for value, low, high in DIFFERENCES.values():
        words = f"{100 * value:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
        assert words.replace("-", "−") in page
    assert "55556666777788889999000011112222.dir" in page
    assert "0123456789abcdef0123456789abcdef.dir" in page
    assert "cdcdcdcdcdcd" in page and "postbc-lift-postbc" in page
    assert "finetune_sim.noise_bound 1.5" in page


def test_it_needs_no_network(root):
    page = build_page(root, config())
    assert not re.search(r"https?:|[('\x22]//|@import|<script|<link", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for tag, name, value in parser.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:", "#")), (tag, value)


def test_media_are_carried_in_pairs(root):
    page = build_page(root, config())
    for life in ("pretrained", "finetuned_sim"):
        clips = [base64.b64encode(f"{life} {m}".encode()).decode() for m in ("bc", "postbc")]
        assert page.index(clips[0]) < page.index(clips[1])
    assert page.count("<video controls muted loop playsinline") == 4


def test_sampled_actions_are_drawn_state_by_state(root):
    page = build_page(root, config())
    figure = page[page.index('aria-label="Sampled actions"') :]
    for words in ("most certain", "typical", "least certain", "demonstrated", "posterior", "BC", "PostBC", "action 1"):
        assert words in figure[: figure.index("</svg>")]
    (root / "plots/actions.csv").unlink()
    assert "Sampled actions" not in build_page(root, config())


def test_the_same_run_gives_the_same_bytes_anywhere(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(root, other)
    assert build_page(root, config()) == build_page(root, config()) == build_page(other, config())
    assert "99999999999999999999" not in build_page(root, config())  # its own hash would change it every time


def test_methods_that_are_no_longer_asked_for_are_no_part_of_the_lineage(root):
    page = build_page(root, replace(config(), methods=["postbc"]))
    assert "0123456789abcdef0123456789abcdef.dir" not in page and "55556666777788889999000011112222.dir" in page


def test_text_from_outside_is_escaped(root):
    page = build_page(root, config())
    assert "&lt;red&gt;" in page and "<red>" not in page


def verdicts(root):
    return re.findall(r"<strong>(.*?)</strong>", build_page(root, config()))


def test_an_interval_around_zero_is_no_evidence(root):
    assert verdicts(root) == [
        "No evidence of a difference",
        "Not measured",
        "PostBC ended better",
        "PostBC ended better",
    ]
    assert "leaves room for a loss of 12.1 and for a gain of 24.2 points" in build_page(root, config())


def test_a_loss_is_called_a_loss(root):
    worse = {"success": -0.3, "low": -0.5, "high": -0.1}
    coverage = {
        "measure": "Starts solved at least once in 16 tries",
        "methods": {
            "bc": {"value": 0.5, "low": 0.4, "high": 0.6, "success": 0.31, "zero": 0.22, "best_of": [0.31, 0.5]},
            "postbc": {
                "value": 0.75,
                "low": 0.65,
                "high": 0.85,
                "success": 0.43,
                "zero": 0.21,
                "best_of": [0.43, 0.75],
            },
        },
        "difference": {"value": 0.25, "low": 0.1, "high": 0.4},
    }
    write_evaluation(root, difference={"pretrained": worse}, coverage=coverage)
    assert verdicts(root) == ["PostBC started worse", "PostBC covered more", "Not measured"]
    assert "−30.0 points (95 % interval −50.0 to −10.0)" in build_page(root, config())
    page = build_page(root, config())
    assert "Starts solved at least once in 16 tries: BC 50.0 % (40.0 to 60.0 %)" in page
    assert all(f"{number} %" in text_of(page) for number in ("31.0", "22.0", "43.0", "21.0"))
    assert 'aria-label="Best of n tries"' in page


def test_curves_of_a_method_that_is_no_longer_compared_are_left_out(root):
    before = build_page(root, config())
    curve = next((root / "plots").glob("finetune_sim.postbc.csv"))
    shutil.copy(curve, curve.with_name("finetune_sim.sigma_bc.csv"))
    assert build_page(root, config()) == before


def test_what_is_missing_is_said(root):
    shutil.rmtree(root / "plots")
    shutil.rmtree(root / "artifacts")
    (root / "artifacts/videos").mkdir(parents=True)
    (root / "artifacts/videos/README.txt").write_text("No EGL & no OSMesa here.\n")
    for name in ("metrics/registry.json", "dvc.lock", "data.dvc"):
        (root / name).unlink()
    page = text_of(build_page(root, config()))
    for words in ("no learning curves", "No EGL &amp; no OSMesa here.", "None yet", "No dvc.lock"):
        assert words in page


def test_a_run_without_evaluation_is_refused(root):
    (root / "metrics/evaluation.json").write_text('{"pretrained": {"bc": {"success": 1}}}')
    with pytest.raises(DataError, match="is no evaluation"):
        build_page(root, config())
    (root / "metrics/evaluation.json").unlink()
    with pytest.raises(DataError, match="is missing"):
        build_page(root, config())


def test_an_empty_or_short_curve_does_no_harm(root):
    (root / "plots/finetune_robot.bc.csv").write_text("env_steps,success,low,high\n")
    write_curve(root / "plots/finetune_sim.bc.csv", [20], 2000)
    build_page(root, config())
    Path(root / "plots/finetune_sim.bc.csv").write_text("env_steps,success\n0,many\n")
    with pytest.raises(DataError, match="many"):
        build_page(root, config())


def test_who_is_done_early_is_not_called_slower(root):
    write_curve(root / "plots/finetune_sim.bc.csv", [25, 35, 45, 45, 45], 3000)
    (root / "plots/finetune_sim.postbc.csv").write_text(
        "env_steps,success,low,high,return\n0,.5,.4,.6,1\n3000,.9,.8,1,1\n"
    )
    assert "BC 80.0 % and PostBC 85.0 %" in text_of(build_page(root, config()))


def test_a_robots_curve_is_that_of_its_training_episodes(root):
    text = "env_steps,training_episodes,training_success,q\n0,0,0.0,\n1000,9,0.25,-3\n2000,19,0.75,-2\n"
    (root / "plots/finetune_robot.bc.csv").write_text(text)
    curve = read_curve(root / "plots/finetune_robot.bc.csv")
    assert (curve["env_steps"], curve["success"]) == ([1000, 2000], [0.25, 0.75])
    assert "On the robot, training episodes" in build_page(root, config())


def test_the_terminal_shows_the_same_table(root):
    console = Console(record=True, width=140, file=None, quiet=False)
    with console.capture() as captured:
        console.print(terminal_table(root))
    out = captured.get()
    assert "88.0 %" in out and "76.2 to 94.4 %" in out and "PostBC better" in out
