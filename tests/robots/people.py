"""People beside a robot, for tests: what they type, click and wait for."""

import http.client
import json
import os
import termios
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from postbc.config.robot import OperatorConfig
from postbc.robots.operator import PersonOperator
from postbc.robots.operator.desk import Phase
from postbc.robots.operator.requests import KEY_HEADER

PATIENCE_S = 20.0
NO_PAGE = OperatorConfig(page_port=None)
ANY_PORT = OperatorConfig(page_port=0)


def until(condition):
    """Wait for ``condition``, much longer than it should take."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
    return found


class Waiting:
    """``call`` in a thread, which ends with a result or an error."""

    def __init__(self, call):
        self.error = None
        self.thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self.thread.start()

    def _run(self, call):
        try:
            call()
        except Exception as error:
            self.error = error

    def end(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return self.error


def preparing(desk, call=None):
    """A thread that waits for the reset to be over, and is there already."""
    waiting = Waiting(call or (lambda: desk.prepare(1)))
    until(lambda: desk.state().phase is not Phase.IDLE or waiting.error)
    return waiting


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lflags(fd):
    return termios.tcgetattr(fd)[3]


def ask(page, method, path, body=None, **headers):
    """The answer to one request: status, text, headers; a header of None is left out."""
    port = page.server_port
    usual = {"Host": f"127.0.0.1:{port}", KEY_HEADER: page.key}
    if method == "POST":
        usual |= {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        sent = None if body is None else body.encode()
        if sent is not None and "Content-Length" not in usual:
            usual["Content-Length"] = str(len(sent))
        for name, value in usual.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.headers)
    finally:
        connection.close()


def say(page, event):
    seen = page.desk.state().now
    status, text, _ = ask(page, "POST", "/event", json.dumps({"event": event, "seen": seen}))
    assert status == 200, text
    return json.loads(text)


@contextmanager
def person(config, stdin=None, **parts):
    with Path(os.devnull).open() as nothing:
        operator = PersonOperator(config, stdin=nothing if stdin is None else stdin, **parts)
        try:
            yield operator
        finally:
            operator.close()
