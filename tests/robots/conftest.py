"""A terminal and a page for people beside a robot."""

import os
import pty

import pytest

from postbc.robots import lock
from postbc.robots.operator.desk import Desk
from postbc.robots.operator.page import Page


@pytest.fixture
def terminal():
    """Both ends of a pseudo-terminal: what a person types into, what the process reads."""
    person, process = pty.openpty()
    with os.fdopen(process, "rb", 0) as stdin:
        yield person, stdin
    os.close(person)


@pytest.fixture
def page():
    desk = Desk(60.0, teleoperated=True)
    served = Page(desk, 0, "Put <b>the cube</b> back.", True)
    yield served
    served.close()


@pytest.fixture(autouse=True)
def locks_of_its_own(tmp_path_factory, monkeypatch):
    """Devices of tests have no address of their own: other tests of this user may run."""
    monkeypatch.setattr(lock, "SHARED", tmp_path_factory.mktemp("locks"))
