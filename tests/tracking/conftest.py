"""A registry in a temporary folder, and a run to register."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import make_run

from postbc.tracking.client import quiet_mlflow

_FROM_MLFLOW = ("ignore:.*deprecated.*:sqlalchemy.exc.SADeprecationWarning",)  # its use of SQLAlchemy 2.1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let through what MLflow itself warns of, in this folder's tests only."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for warning in _FROM_MLFLOW:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose tables exist; making them takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = quiet_mlflow().MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    client.search_registered_models(max_results=1)
    return path


@pytest.fixture
def root(tmp_path: Path, empty_database: Path) -> Iterator[Path]:
    """A folder with an empty registry and a finished run of bc and postbc."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    make_run(tmp_path)
    yield tmp_path
