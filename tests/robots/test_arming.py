"""Arming tokens: once, soon, for this robot, this policy and these limits; nothing else."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from postbc.errors import NotArmedError, RobotError
from postbc.robots.arming import Request, consume, issue

REQUEST = Request(robot="twin", policy="a" * 64, limits="b" * 64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "arming"


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_token_is_private_and_serves_once(folder):
    path = issue(folder, REQUEST, "Ada", lifetime_s=60)
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    token = consume(folder, REQUEST)
    assert (token.operator, token.request) == ("Ada", REQUEST)
    assert token.lifetime_s == pytest.approx(60)
    with pytest.raises(NotArmedError, match=r"twin.*none.*postbc robot arm.*Prefect"):
        consume(folder, REQUEST)


def _race(folder, start):
    time.sleep(max(0.0, start - time.time()))
    try:
        return consume(folder, REQUEST).nonce
    except NotArmedError:
        return None


def test_of_racing_processes_exactly_one_gets_the_token(folder):
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(_race, [folder] * 4, [0.0] * 4))  # imports are over, so the race below is close
        for _ in range(5):
            nonce = issue(folder, REQUEST, "Ada").stem
            winners = [n for n in pool.map(_race, [folder] * 4, [time.time() + 0.1] * 4) if n]
            assert winners == [nonce]


def test_a_token_copied_back_or_under_another_name_is_spent(folder):
    path = issue(folder, REQUEST, "Ada")
    text = path.read_text()
    consume(folder, REQUEST)
    for name in (path.name, "f" * 32 + ".json"):
        copy = folder / name
        copy.write_text(text)
        copy.chmod(0o600)
    with pytest.raises(NotArmedError, match="1 already used, 1 unreadable or malformed"):
        consume(folder, REQUEST)


def test_a_copied_project_is_not_armed_nor_is_one_on_a_machine_that_was_started_anew(folder, tmp_path):
    path = issue(folder, REQUEST, "Ada")
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(NotArmedError, match="1 for another folder"):
        consume(tmp_path / "copy", REQUEST)
    _edit(path, boot="0" * 36)
    with pytest.raises(NotArmedError, match="1 from before the machine was started"):
        consume(folder, REQUEST)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robot": "so100"}, "another robot"),
        ({"policy": "c" * 64}, "another policy \\(cccccccccccc\\)"),
        ({"limits": "c" * 64}, "other limits"),
    ],
)
def test_a_token_for_something_else_is_refused_and_kept(folder, change, words):
    path = issue(folder, replace(REQUEST, **change), "Ada")
    with pytest.raises(NotArmedError, match=words):
        consume(folder, REQUEST)
    assert path.exists()


def test_an_expired_token_is_refused_and_removed(folder):
    path = issue(folder, REQUEST, "Ada")
    spent = issue(folder, REQUEST, "Ada").rename(folder / ("e" * 32 + ".used"))
    for file in (path, spent):
        _edit(file, issued=time.time() - 20, expires=time.time() - 10)
    with pytest.raises(NotArmedError, match="1 expired"):
        consume(folder, REQUEST)
    assert not path.exists()
    assert not spent.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": float("nan")},
        {"expires": float("inf")},
        {"expires": 9e12},
        {"expires": "tomorrow"},
        {"expires": True},
        {"operator": "  "},
        {"operator": None},
        {"robot": ["twin"]},
        {"policy": "A" * 64},
        {"nonce": "../../etc/passwd"},
        {"extra": 1},
    ],
)
def test_a_malformed_token_is_refused(folder, changes):
    _edit(issue(folder, REQUEST, "Ada"), **changes)
    with pytest.raises(NotArmedError, match="1 unreadable or malformed"):
        consume(folder, REQUEST)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 4000, b" " * 5000])
def test_a_file_that_is_no_token_is_refused(folder, text):
    issue(folder, REQUEST, "Ada").write_bytes(text)
    with pytest.raises(NotArmedError, match="malformed"):
        consume(folder, REQUEST)


def test_links_pipes_folders_and_files_of_others_are_refused(folder, tmp_path):
    path = issue(folder, REQUEST, "Ada")
    elsewhere = path.rename(tmp_path / path.name)
    path.symlink_to(elsewhere)
    os.mkfifo(folder / "pipe.json", 0o600)
    (folder / "folder.json").mkdir()
    open_to_all = issue(folder, REQUEST, "Ada")
    open_to_all.chmod(0o666)
    with pytest.raises(NotArmedError, match="4 unreadable or malformed"):
        consume(folder, REQUEST)


def test_a_valid_token_is_found_among_the_others(folder):
    issue(folder, replace(REQUEST, robot="so100"), "Ada")
    (folder / "0.json").write_text("not json")
    good = issue(folder, REQUEST, "Grace")
    assert consume(folder, REQUEST).nonce == good.stem


def test_issue_refuses_nonsense(folder):
    for operator, lifetime in (
        ("", 60),
        (" ", 60),
        ("Ada", 0),
        ("Ada", -1),
        ("Ada", 1e6),
        ("Ada", float("nan")),
    ):
        with pytest.raises(RobotError):
            issue(folder, REQUEST, operator, lifetime)
    assert not list(folder.glob("*"))
    for wrong in ({"robot": " "}, {"policy": "abc"}, {"limits": None}):
        with pytest.raises(RobotError):
            replace(REQUEST, **wrong)


def test_a_missing_folder_means_not_armed(folder):
    with pytest.raises(NotArmedError, match="none"):
        consume(folder, REQUEST)


def test_importing_arming_imports_nothing_heavy():
    code = "import postbc.robots.arming, sys; print({m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("torch", "numpy", "lerobot", "prefect", "hydra") if f"'{name}'" in loaded]
