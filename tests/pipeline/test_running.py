"""How stages end."""

import os
import signal
import subprocess
import sys

import pytest
from closure import ROOT

STAGE = """
import os, signal
from stages import running
running.load_config = lambda: None
running.run(lambda *_: os.kill(os.getpid(), signal.NUMBER), running.arguments("", method=False), attended=ATTENDED)
"""


@pytest.mark.parametrize(
    ("number", "ignored", "attended", "status"),
    [
        ("SIGHUP", True, False, 0),
        ("SIGHUP", True, True, 130),
        ("SIGHUP", False, False, 130),
        ("SIGINT", True, False, 130),
    ],
)
def test_a_stage_outlives_its_terminal_under_nohup_alone_and_never_with_a_robot(number, ignored, attended, status):
    def begin() -> None:  # whether or not the tests themselves run under nohup
        signal.signal(getattr(signal, number), signal.SIG_IGN if ignored else signal.SIG_DFL)

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
    command = [sys.executable, "-c", STAGE.replace("NUMBER", number).replace("ATTENDED", str(attended))]
    assert subprocess.run(command, cwd=ROOT, env=environment, preexec_fn=begin, check=False).returncode == status
