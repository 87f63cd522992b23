"""The real servers in a tiny project, and what a client asks of them."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count

import httpx
from tiny_project import SOURCE

# Below the ports that clients get, and those of each of pytest's workers: nobody else takes one before a server does.
PORTS = count(20_000 + 3_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))


def free_port():
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"PYTHONPATH": str(SOURCE)}


class Patient(httpx.HTTPTransport):
    """Asks again while the server's database is busy, as Prefect's own client does."""

    def handle_request(self, request):
        for _ in range(20):
            reply = super().handle_request(request)
            if reply.status_code != 503:
                break
            reply.read()
            time.sleep(1)
        return reply


class Served:
    """``python -m flows.serve`` in a tiny project."""

    def __init__(self, root):
        self.root, port, mlflow_port = root, free_port(), free_port()
        self.out = (root / "serve.out").open("w+")
        options = ["--prefect-port", str(port), "--mlflow-port", str(mlflow_port)]
        command = [sys.executable, "-m", "flows.serve", *options]
        self.process = subprocess.Popen(command, cwd=root, env=environment(), stderr=self.out, stdout=self.out)
        self.mlflow = f"http://127.0.0.1:{mlflow_port}"
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=20, transport=Patient())

    def text(self):
        return (self.root / "serve.out").read_text()

    def wait(self, condition, seconds=240):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text() + self.log()
            time.sleep(0.3)
        return value

    def log(self):
        return (self.root / ".work" / "serve" / "deployments.log").read_text()

    def trigger(self, name):
        deployment = self.api.get(f"/deployments/name/pipeline/{name}").raise_for_status().json()["id"]
        reply = self.api.post(f"/deployments/{deployment}/create_flow_run", json={})
        return reply.raise_for_status().json()["id"]

    def run(self, run_id):
        return self.api.get(f"/flow_runs/{run_id}").raise_for_status().json()

    def wait_for_question(self, run_id):
        """The form that the paused run shows."""
        self.wait(lambda: self.run(run_id)["state_type"] in ("PAUSED", "FAILED", "CRASHED"))
        assert self.run(run_id)["state_type"] == "PAUSED", self.log()
        key = self.run(run_id)["state"]["state_details"]["run_input_keyset"]["description"]
        form = f"/flow_runs/{run_id}/input/{key}"
        self.wait(lambda: self.api.get(form).status_code == 200, 20)  # written just after the state
        return self.api.get(form).text

    def answer(self, run_id, **values):
        return self.api.post(f"/flow_runs/{run_id}/resume", json={"run_input": values}).raise_for_status().json()

    def wait_for_end(self, run_id):
        ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        self.wait(lambda: self.run(run_id)["state_type"] in ended)
        return self.run(run_id)["state"]
