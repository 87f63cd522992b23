"""Which requests the operator's page answers, and how.

Every request must name this machine as its host (else a foreign page could reach it by DNS rebinding) and carry the key of the
printed address; what is posted must come from the page itself (Origin), as JSON, and be short. Nothing else is served.
"""

import hmac
import json
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlsplit

from postbc.robots.operator.desk import Event

if TYPE_CHECKING:
    from postbc.robots.operator.page import Page

KEY_HEADER = "X-Operator-Key"
_NAMES = ("127.0.0.1", "localhost", "[::1]")  # by any port, so that a tunnel may end at another one
_MAX_BODY = 512  # bytes; an event takes 50
_REQUEST_S = 3.0  # a client that says nothing for so long is hung up on


class _RefusedError(Exception):
    """A request that is not answered with what it asks for."""


class Handler(BaseHTTPRequestHandler):
    """GET / (the page), GET /state, POST /event {"event": NAME, "seen": the state's ``now``}; a connection is one request."""

    server: "Page"
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
            ignored = None
            if path == "/event":
                event, seen = self._event()
                ignored = self.server.desk.post(event, "page", seen)
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

    def _event(self) -> tuple[Event, float]:
        """What is posted, and when what they saw was so. Raises _RefusedError unless it is short JSON with an event."""
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Post application/json.")
        if not self._has_short_body():
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Say how long it is; at most {_MAX_BODY} bytes.")
        body, self._body_read = self.rfile.read(int(self.headers["Content-Length"])), True
        try:
            posted = json.loads(body)
            event = Event(posted["event"])
            return event, 0.0 if event is Event.STOP else float(posted["seen"])  # a stop is never too late
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            said = f'Post {{"event": one of {", ".join(Event)}, "seen": the state\'s now}}.'
            raise _RefusedError(HTTPStatus.BAD_REQUEST, said) from error

    def _has_short_body(self) -> bool:
        """Whether there is a body that is not read yet, of a stated and permitted length."""
        length = self.headers.get("Content-Length", "")
        stated = length.isascii() and length.isdigit() and "Transfer-Encoding" not in self.headers
        return stated and len(length) <= len(str(_MAX_BODY)) and int(length) <= _MAX_BODY and not self._body_read

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
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
