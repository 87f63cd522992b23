"""How stages end."""

import os
import signal
import subprocess
import sys

import pytest
from closure import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
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

    command = [sys.executable, "-c", STAGE.replace("NUMBER", number).replace("ATTENDED", str(attended))]
    assert subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, preexec_fn=begin, check=False).returncode == status


def test_a_stage_whose_parent_ended_while_it_was_imported_does_not_begin():
    begun = STAGE.replace("from stages import running", "import stages; stages.PARENT = 0; from stages import running")
    command = [sys.executable, "-c", begun.replace("NUMBER", "SIGKILL").replace("ATTENDED", "True")]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 130 and "whoever started this stage has ended" in done.stderr
