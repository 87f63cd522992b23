"""The environment of all that is started here: no telemetry, no promotions, nothing in the user's home."""

import os
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
WORK = Path(".work")
HOST = "127.0.0.1"  # whoever reaches a port can approve a robot run, so nobody else may

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "true",
}


def be_quiet_and_local() -> None:
    """Set what the user's environment leaves open.

    Runs started from the command line have a Prefect home, so a database, of their own: the server of
    ``make serve`` and the one that Prefect starts for a run without a server must not share one SQLite file.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if known.strip() != "*":  # a proxy knows nothing of this machine's own servers
        listed = [name.strip() for name in known.split(",") if name.strip()]
        known = ",".join(dict.fromkeys([*listed, HOST, "localhost"]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = known
    home = (WORK / "prefect" / "cli").resolve()
    if os.environ.setdefault("PREFECT_HOME", str(home)) == str(home):
        home.mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder of the path only


def child_environment(**extra: str) -> dict[str, str]:
    """A child's environment: this interpreter first on PATH, this source importable, output unbuffered."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    modules = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    joined = {"PATH": os.pathsep.join(paths), "PYTHONPATH": os.pathsep.join(modules)}
    return {**os.environ, **joined, "PYTHONUNBUFFERED": "1", **extra}
