"""Where a model comes from: git commit, DVC hashes of its data and of every stage on its way, parameters."""

import subprocess
from pathlib import Path

from postbc.reporting.lock import ancestry, data_hashes, read_lock
from postbc.storage.checkpoint import identity

_WRITTEN_BY_RUNS = ("dvc.lock", "metrics", "plots", "reports")  # change in every run; say nothing of the code


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def git_state(root: Path) -> dict[str, str]:
    """Tags ``git_commit`` and ``git_dirty`` of the work tree at ``root``; ``unknown`` outside a repository.

    Dirty means that a tracked file differs from the commit, the files that every run rewrites apart.
    """
    commit = _git(root, "rev-parse", "HEAD")
    apart = [f":(exclude){path}" for path in _WRITTEN_BY_RUNS]
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *apart)
    dirty = "unknown" if changes is None else str(bool(changes)).lower()
    return {"git_commit": commit or "unknown", "git_dirty": dirty}


def dvc_hashes(root: Path, path: str) -> dict[str, str]:
    """Tags ``dvc.<path>`` = md5, of the data and of every output that led to ``path`` below ``root``.

    ``dvc.params`` is one sha256 over the parameters of those stages.
    """
    stages = ancestry(read_lock(root), path)
    outs = {out: md5 for stage in stages for out, md5 in stage.outs.items()}
    hashes = {f"dvc.{name}": md5 for name, md5 in sorted((data_hashes(root, stages) | outs).items())}
    return hashes | {"dvc.params": identity({s.name: s.params for s in stages})}
