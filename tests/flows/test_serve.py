"""The served pipeline: one start of the real servers, a gate that is asked, answered and refused, a clean end."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from served import environment, free_port
from tracking.tiny_run import config, make_run

from postbc.config import RegisterConfig
from postbc.policies.folder import load_policy
from postbc.storage.journal import Journal
from postbc.tracking.client import quiet_mlflow
from postbc.tracking.run import register_run

NAMES = {"evil.example:4200": 400, "localhost:4200": 200, "127.0.0.1:4200": 200}
pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def _processes_in(root):
    """Living processes whose working folder is ``root``."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(root):  # noqa: PTH115
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_a_name_that_was_made_to_lead_here_is_not_answered(served):
    asked = {name: served.api.get("/health", headers={"Host": name}).status_code for name in NAMES}
    assert asked == NAMES
    at_mlflow = httpx.get(f"{served.mlflow}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example:5000"})
    assert at_mlflow.status_code == 403


def test_a_refusal_fails_the_run_and_the_stage_is_not_run(served):
    run = served.trigger("finetune-robot")
    form = served.wait_for_question(run)
    assert "finetune_robot@bc" in form
    assert "twin" in form
    assert "a" * 64 in form
    for malformed in (
        {},
        {"operator": "", "approve": True},
        {"operator": " ", "approve": True},
        {"operator": "Ada", "approve": "perhaps"},
        {"operator": "Ada", "approve": True, "x": 1},
    ):
        assert served.answer(run, **malformed)["status"] == "REJECT", malformed
    assert served.run(run)["state_type"] == "PAUSED"
    served.answer(run, operator="Ada", approve=False, note="somebody stands there")
    state = served.wait_for_end(run)
    assert state["type"] == "FAILED"
    assert re.search("Ada refused finetune_robot@bc.*somebody stands there", state["message"])
    assert not (served.root / "robot").exists()
    assert not list((served.root / ".work").glob("arming/*"))
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    served.api.post(f"/flow_runs/{run}/set_state", json=again).raise_for_status()
    served.wait_for_question(run)  # anew: an old answer permits nothing
    served.answer(run, operator="Eve", approve=False)
    assert "Eve refused" in served.wait_for_end(run)["message"]


def test_an_approval_lets_the_stage_run_once(served):
    run = served.trigger("finetune-robot")
    served.wait_for_question(run)
    assert served.answer(run, operator="Grace", approve=True)["status"] == "ACCEPT"
    state = served.wait_for_end(run)
    assert state["type"] == "COMPLETED", state["message"]
    assert (served.root / "robot").read_text() == "Grace"
    left = [path.suffix for path in (served.root / ".work" / "arming").iterdir()]
    assert left == [".used"]


def test_a_stage_that_is_up_to_date_is_not_asked_for(served):
    state = served.wait_for_end(served.trigger("pipeline"))
    assert state["message"] == "0 stages run, 2 up to date"


def test_a_policy_registered_at_the_served_mlflow_is_pulled_from_it(served, tmp_path):
    make_run(tmp_path)
    register_run(tmp_path, config(register=RegisterConfig(tracking_uri=served.mlflow)))
    command = [
        str(Path(sys.executable).with_name("postbc")),
        "models",
        "pull",
        "postbc-lift-postbc@champion",
        "pulled",
        "--tracking-uri",
        served.mlflow,
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert load_policy(tmp_path / "pulled").model.latent_dim == 8


def test_a_run_in_progress_is_seen_in_the_served_mlflow(served):
    journal = Journal(served.root / ".work" / "live" / "pretrain.bc.jsonl")
    journal.begin([])
    journal.add({"step": 0, "loss": 1.5})
    client, found = quiet_mlflow().MlflowClient(served.mlflow), []
    deadline = time.monotonic() + 60
    while not found and time.monotonic() < deadline:
        time.sleep(0.5)
        experiment = client.get_experiment_by_name("postbc-live")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        found = [run for run in found if "loss" in run.data.metrics]
    assert [run.data.metrics["loss"] for run in found] == [1.5]


def test_other_sites_may_not_call_the_server(served):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    reply = served.api.options("/flow_runs/filter", headers=headers)
    assert "access-control-allow-origin" not in reply.headers


def test_sigterm_while_a_run_waits_ends_everything(served):
    (served.root / "robot").unlink(missing_ok=True)  # of the tests before
    (served.root / "switch").write_text("works again\n")
    run = served.trigger("pipeline")
    served.wait_for_question(run)
    assert len(_processes_in(served.root)) > 5
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 0, served.text()
    assert _processes_in(served.root) == []
    assert served.text().rstrip().endswith("Stopped.")


@pytest.mark.parametrize("option", ["--mlflow-port", "--prefect-port"])
def test_a_taken_port_is_named_before_anything_starts(option, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        free = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
        command = [sys.executable, "-m", "flows.serve", *free, option, port]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert port in done.stderr
    assert option in done.stderr
    assert not (tmp_path / ".work" / "serve").exists()


ANSWERED = """
import http.server, os, threading, flows
from flows.environment import be_quiet_and_local
from flows.services import _answers
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
be_quiet_and_local()  # once more, as every process that another one started does
print(_answers(f"http://127.0.0.1:{server.server_port}/"), os.environ["no_proxy"], os.environ["NO_PROXY"])
"""


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost"),
        ({"no_proxy": "a.org, b.org", "NO_PROXY": "c.org"}, "a.org,b.org,127.0.0.1,localhost"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_a_proxy_is_not_asked_for_this_machines_own_servers(tmp_path, said, known):
    plain = {name: value for name, value in environment().items() if name.lower() != "no_proxy"}
    proxied = {**plain, "http_proxy": "http://127.0.0.1:9", **said}
    done = subprocess.run([sys.executable, "-c", ANSWERED], cwd=tmp_path, env=proxied, capture_output=True, text=True)
    assert done.stdout == f"True {known} {known}\n", done.stderr


def test_prefects_own_clients_are_answered_in_memory(tmp_path):
    code = (
        "import asyncio, flows.server\n"
        "flows.server.app()\n"
        "from prefect.server.api.clients import OrchestrationClient\n"
        "async def ask():\n"
        "    async with OrchestrationClient() as client:\n"
        "        return (await client._http_client.get('/health')).status_code\n"
        "print(asyncio.run(ask()))"
    )
    known = {**environment(), "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.stdout == "200\n", done.stderr[-2000:]


def test_what_is_not_vital_is_started_again_and_ends_nothing(tmp_path, monkeypatch):
    from rich.console import Console

    from flows.serve import Supervisor
    from flows.services import Service

    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    said = io.StringIO()
    try:
        with Supervisor(Console(file=said)) as supervisor:
            supervisor.start(Service("live", ("sh", "-c", "echo begun >> starts"), (), vital=False))
            deadline = time.monotonic() + 60
            while not (Path("starts").exists() and len(Path("starts").read_text().splitlines()) == 2):
                supervisor.check()
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "live ended with exit status 0 and is started again" in said.getvalue()


def test_a_server_that_dies_is_reported_with_its_last_lines(tmp_path, monkeypatch, capsys):
    from flows import serve
    from flows.services import Service

    def broken(*_):
        waits = Service("waits", ("sleep", "300"), ())
        dies = Service("dies", ("sh", "-c", "echo the reason; exit 3"), ("http://127.0.0.1:9/",))
        return waits, dies, waits, waits

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "services", broken)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert serve.main(["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    error = capsys.readouterr().err
    assert "dies ended with exit status 3" in error
    assert "the reason" in error
    assert _processes_in(tmp_path.resolve()) in ([], [os.getpid()])
