"""The operator's page: a small web page on this machine alone, in threads beside the control loop."""

import logging
import secrets
import socket
import threading
from http.server import ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from postbc.errors import RobotError
from postbc.robots.operator.desk import Desk, State
from postbc.robots.operator.facts import spoken
from postbc.robots.operator.requests import Handler

HOST = "127.0.0.1"
_CONNECTIONS = 16  # at once; one more hangs up on the oldest
_FINISH_S = 0.5  # that answers in progress get when the page closes, among them the one to STOP
_log = logging.getLogger(__name__)


class Page(ThreadingHTTPServer):
    """Serves ``desk`` at :attr:`url` until :meth:`close`.

    Args:
        desk: what is shown and posted to.
        port: 0 for any free one.
        instructions: what the person does at a reset.
        teleoperated: whether there is a button to take the arm.

    Raises RobotError for a port that is in use.
    """

    daemon_threads = True
    request_queue_size = (
        64  # connections that wait; the default of 5 lets a handful that hang hold up the rest for seconds
    )
    block_on_close = False

    def __init__(self, desk: Desk, port: int, instructions: str, teleoperated: bool = False) -> None:
        self.desk, self.instructions, self.teleoperated = desk, instructions, teleoperated
        self.key = secrets.token_urlsafe(24)
        self.html = files("postbc.robots.operator").joinpath("page.html").read_text(encoding="utf-8")
        self._open: dict[socket.socket, None] = {}
        self._guard = threading.Condition()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise RobotError(
                f"The operator's page can not have port {port} ({error.strerror}): is another robot running? "
                "finetune_robot.robot.operator.page_port: 0 takes any free port."
            ) from error
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="operator-page", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is, with its key."""
        return f"http://{HOST}:{self.server_port}/?key={self.key}"

    def state(self) -> dict[str, Any]:
        """What the page shows, as JSON has it."""
        state: State = self.desk.state()
        return {
            "phase": state.phase.value,
            "episode": state.episode,
            "remaining": state.remaining_s,
            "intervening": state.intervening,
            "note": state.note,
            "facts": spoken(state.facts),
            "now": state.now,
            "instructions": self.instructions,
            "teleoperated": self.teleoperated,
        }

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread; the oldest one makes room, which can only be one that hangs."""
        with self._guard:
            oldest = next(iter(self._open)) if len(self._open) >= _CONNECTIONS else None
            self._open[request] = None
            if oldest is not None:
                self._open.pop(oldest)
                _hang_up(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection ends."""
        with self._guard:
            self._open.pop(request, None)
            self._guard.notify_all()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is no news."""
        _log.debug("operator's page: a connection broke", exc_info=True)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def close(self) -> None:
        """Stop serving and give the port back."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._guard:
            self._guard.wait_for(lambda: not self._open, _FINISH_S)
            for request in self._open:
                _hang_up(request)


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        _log.debug("operator's page: a connection was closed already")
