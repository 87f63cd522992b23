"""The tiny project as a fixture, and one start of the servers for all tests of the flows."""

import os

import pytest
from served import Served
from tiny_project import GATED, STAGES, make_project

_THIRD_PARTY = (
    "ignore:.*deprecated.*:sqlalchemy.exc.SADeprecationWarning",  # MLflow's use of SQLAlchemy 2.1
    "ignore:_NoneStep.value will soon raise:DeprecationWarning",  # DVC, through pygtrie
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):  # noqa: PTH120
            for line in _THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The tiny project, as the current folder."""
    root = make_project(tmp_path / "project", STAGES)
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One start of the servers for a file's tests; the last of test_serve.py ends them."""
    server = Served(make_project(tmp_path_factory.mktemp("served").resolve() / "project", GATED))
    try:
        server.wait(lambda: "Ctrl-C stops everything" in server.text())
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)
        server.api.close()
        server.out.close()
