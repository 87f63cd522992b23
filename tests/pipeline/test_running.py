"""How stages end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from closure import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
STAGE = """
import os, signal
from stages import running
running.load_config = lambda: None
running.run(lambda *_: os.kill(os.getpid(), signal.NUMBER), running.arguments("", method=False), attended=ATTENDED)
"""


def until(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)
    return found


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


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


def test_a_stage_ends_with_the_shell_that_starts_it_whichever_shell_it_is(tmp_path):
    """As DVC runs it where SHELL is not set: by /bin/sh, which stays between them unless the command says exec."""
    (tmp_path / "stage.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom stages import running\nrunning.load_config = lambda: None\n"
        "def stage(*_):\n    Path('new').write_text(str(os.getpid()))\n    os.rename('new', 'pid')\n    time.sleep(600)\n"
        "running.run(stage, running.arguments('', method=False))"
    )
    starter = "import subprocess; subprocess.run(['/bin/sh', '-c', 'exec python stage.py'])"
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    dvc = subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, env=environment)
    until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    dvc.kill()
    dvc.wait()
    try:
        until(lambda: not alive(pid))
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_elsewhere_than_on_linux_a_thread_looks_after_the_parent():
    code = "import os, time; from postbc.processes import watch_parent; watch_parent(os.getppid() + 1); time.sleep(9)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM
