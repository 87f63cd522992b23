"""Where and with what a measurement was made, beside its numbers."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from postbc.storage.atomic import write_json

FOLDER = Path(__file__).parent / "results"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """The commit that is checked out; with -dirty when files differ from it."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(asked, cwd=FOLDER, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write(name: str, packages: tuple[str, ...], numbers: dict[str, Any]) -> Path:
    """Write benchmarks/results/``name``.json and return its path."""
    where = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: metadata.version(package) for package in packages}
    path = FOLDER / f"{name}.json"
    write_json(path, {"hardware": where, "versions": versions, "commit": commit(), "numbers": numbers})
    return path
