"""Single keys in a terminal."""

import os
import pty
import select
import subprocess
import sys
import termios

import pytest
from people import PATIENCE_S, lflags, until

from postbc.robots.operator.desk import Event
from postbc.robots.operator.keyboard import Keyboard, events


def test_keys_reach_the_desk_one_by_one_and_the_mode_comes_back(terminal):
    person, stdin = terminal
    before, posted = termios.tcgetattr(stdin), []
    keyboard = Keyboard(stdin.fileno(), lambda event, source: posted.append((event, source)))
    assert not lflags(stdin) & (termios.ICANON | termios.ECHO)
    assert lflags(stdin) & termios.ISIG  # Ctrl-C
    os.write(person, b"\rxS\x1b[A\x1bOPfi\x1b[15~q")
    until(lambda: len(posted) == 5)
    keyboard.close()
    keyboard.close()
    assert [event.value for event, _ in posted] == ["start", "success", "failure", "intervene", "stop"]
    assert {source for _, source in posted} == {"terminal"}
    assert termios.tcgetattr(stdin) == before


def test_what_was_typed_before_is_not_heard(terminal):
    person, stdin = terminal
    os.write(person, b"\n")
    posted = []
    keyboard = Keyboard(stdin.fileno(), lambda event, _: posted.append(event))
    os.write(person, b"s")
    until(lambda: posted)
    keyboard.close()
    assert posted == [Event.SUCCESS]


def test_escape_and_space_stop():
    assert events("\x1b") == events(" ") == events("Q") == [Event.STOP]


def test_a_terminal_that_hangs_up_is_a_stop():
    person, process = pty.openpty()
    posted = []
    keyboard = Keyboard(process, lambda event, source: posted.append((event, source)))
    os.close(person)
    until(lambda: posted)
    keyboard.close()
    os.close(process)
    assert posted == [(Event.STOP, "the terminal is gone")]


SESSION = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from postbc.config.robot import OperatorConfig
from postbc.robots.operator import PersonOperator
operator = PersonOperator(OperatorConfig(page_port=None))
operator.prepare(1, 0)
print("running", flush=True)
if sys.argv[1] == "raise":
    raise ValueError("something else broke")
for episode in range(2, 10**6):
    operator.prepare(episode, 0)
"""


@pytest.mark.parametrize(
    ("how", "typed", "words"), [("raise", b"", b"something else"), ("wait", b"\x03", b"KeyboardInterrupt")]
)
def test_the_terminal_is_as_before_after_an_error_and_after_ctrl_c(how, typed, words, terminal):
    person, stdin = terminal
    before = termios.tcgetattr(stdin)
    command = [sys.executable, "-c", SESSION, how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdin=stdin, start_new_session=True, **pipes) as session:
        until(lambda: not lflags(stdin) & termios.ICANON)
        while session.poll() is None and not select.select([session.stdout], [], [], 0.05)[0]:
            os.write(person, b"\n")  # heard as soon as the reset has begun
        os.write(person, typed)
        said = session.communicate(timeout=PATIENCE_S)[1]
    assert words in said
    assert termios.tcgetattr(stdin) == before
