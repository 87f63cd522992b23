"""The operator's page: a small web page on this machine alone, in threads beside the control loop.

Every request must name this machine as its host (else a foreign page could reach it by DNS rebinding) and carry the key of the
printed address; what is posted must come from the page itself (Origin), as JSON, and be short. Nothing else is served.
"""

import hmac
import json
import logging
import math
import secrets
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from postbc.errors import RobotError
from postbc.robots.operator.contract import Fact
from postbc.robots.operator.desk import Desk, Event, State

HOST = "127.0.0.1"
KEY_HEADER = "X-Operator-Key"
_NAMES = (HOST, "localhost", "[::1]")  # by any port, so that a tunnel may end at another one
_MAX_BODY = 512  # bytes; an event takes 20
_REQUEST_S = 3.0  # a client that says nothing for so long is hung up on
_FINISH_S = 0.5  # that answers in progress get when the page closes, among them the one to STOP
_CONNECTIONS = 16  # at once; one more hangs up on the oldest
_UNITS = {"ms": "ms", "s": "s", "hz": "Hz"}
_log = logging.getLogger(__name__)


def spoken(facts: Mapping[str, Fact]) -> list[list[str]]:
    """Facts as [what, value] for reading: a rate in [0, 1] as a percentage, units at the end of a name behind the number."""
    return [[*_spoken(name, value)] for name, value in facts.items()]


def _spoken(name: str, value: Fact) -> tuple[str, str]:
    words = name.replace("_", " ").split()
    if isinstance(value, str | bool):
        return " ".join(words), str(value)
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    if unit:
        words = words[:-1]
    if not math.isfinite(value):
        return " ".join(words), "–"
    if words[-1:] == ["rate"] and isinstance(value, float):
        return " ".join(words), f"{value:.0%}"
    number = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    return " ".join(words), f"{number} {unit}" if unit else number


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
            super().__init__((HOST, port), _Handler)
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


class _RefusedError(Exception):
    """A request that is not answered with what it asks for."""


class _Handler(BaseHTTPRequestHandler):
    """GET / (the page), GET /state, POST /event {"event": NAME}; HTTP/1.0, so that a connection is one request."""

    server: Page
    timeout = _REQUEST_S
    _body_read = False
    server_version, sys_version = "operator", ""
    _METHODS: ClassVar[dict[str, str]] = {"/": "GET", "/state": "GET", "/event": "POST"}

    def do_GET(self) -> None:
        """The page or the state."""
        self._answer()

    def do_POST(self) -> None:
        """An event."""
        self._answer()

    def _answer(self) -> None:
        try:
            path = self._permitted()
            if path == "/":
                self._send_page()
                return
            self.server.desk.seen()
            ignored = self.server.desk.post(self._event(), "page") if path == "/event" else None
            self._send(HTTPStatus.OK, json.dumps(self.server.state() | {"ignored": ignored}), "application/json")
        except _RefusedError as refusal:
            status, reason = refusal.args
            if self._has_short_body():  # closing with unread bytes would reset the connection before the answer arrives
                self.rfile.read(int(self.headers["Content-Length"]))
            self._send(status, reason, "text/plain")

    def _permitted(self) -> str:
        """The path of a request that may be answered. Raises _RefusedError for any other."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or _name(hosts[0]) not in _NAMES:
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "This page is for this machine alone.")
        origin = self.headers.get("Origin")
        if (origin is not None or self.command == "POST") and origin != f"http://{hosts[0]}":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "Only the page itself may ask.")
        asked = urlsplit(self.path)
        given = self.headers.get(KEY_HEADER, "")
        if asked.path == "/":
            given = (parse_qs(asked.query).get("key") or [""])[0]
        if not hmac.compare_digest(given.encode(), self.server.key.encode()):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, "The key is missing or wrong: use the whole address that was printed."
            )
        if self._METHODS.get(asked.path) != self.command:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        return asked.path

    def _event(self) -> Event:
        """What is posted. Raises _RefusedError unless it is a short JSON object with an event."""
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Post application/json.")
        if not self._has_short_body():
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Say how long it is; at most {_MAX_BODY} bytes.")
        body, self._body_read = self.rfile.read(int(self.headers["Content-Length"])), True
        try:
            return Event(json.loads(body)["event"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f'Post {{"event": one of {", ".join(Event)}}}.') from error

    def _has_short_body(self) -> bool:
        """Whether there is a body that is not read yet, of a stated and permitted length."""
        length = self.headers.get("Content-Length", "")
        stated = length.isascii() and length.isdigit() and "Transfer-Encoding" not in self.headers
        return stated and len(length) <= len(str(_MAX_BODY)) and int(length) <= _MAX_BODY and not self._body_read

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        page = self.server.html.replace("NONCE", nonce)
        self._send(HTTPStatus.OK, page, "text/html", policy)

    def _send(self, status: HTTPStatus, text: str, kind: str, policy: str = "default-src 'none'") -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: twice a second is no news, and the request line has the key."""


def _name(host: str) -> str:
    """The host of a Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
