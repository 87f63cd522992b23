"""Damaged recordings of every format: whole episodes or a named error, never anything else."""

import random
import shutil

import pytest
from recordings import WRITERS
from toy import toy_episode

from postbc.demos.episode import Episode
from postbc.demos.readers import find_sources
from postbc.errors import DataError

TIMES = 40


def flip(data, chance):
    for _ in range(chance.choice([1, 1, 4])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def blank(data, chance):
    start = chance.randrange(len(data))
    return data[:start] + bytes(min(16, len(data) - start)) + data[start + 16 :]


DAMAGES = {
    "flipped": flip,
    "blanked": blank,
    "cut": lambda data, chance: data[: chance.randrange(len(data))],
    "emptied": lambda data, chance: b"",
    "random": lambda data, chance: chance.randbytes(64),
    "other JSON": lambda data, chance: chance.choice([b"{}", b"[]", b"null", b"3", b'{"fps": null}', b"[" * 100_000]),
    "deleted": None,
}


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_named(tmp_path, name):
    chance, whole = random.Random(name), tmp_path / "whole" / name  # noqa: S311 - damage, no secret
    whole.parent.mkdir()
    WRITERS[name](whole, [toy_episode(n, 8) for n in range(3)])
    named = 0
    for number in range(TIMES):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, path)
        file = chance.choice(sorted(p for p in [path, *path.rglob("*")] if p.is_file()))
        damage = DAMAGES[chance.choice(list(DAMAGES))]
        if damage is None:
            file.unlink()
        elif file.stat().st_size:
            file.write_bytes(damage(bytearray(file.read_bytes()), chance))
        try:
            episodes = [episode for source in find_sources(path.parent) for episode in source.episodes()]
            assert all(isinstance(episode, Episode) for episode in episodes)
        except DataError as error:
            named += 1
            assert str(path.parent) in str(error)
    assert named > TIMES / 4  # or nothing was damaged
