"""The operator's page on loopback."""

import json
import re
import socket
from urllib.parse import urlsplit

import pytest
from people import PATIENCE_S, ask, preparing, say, until

from postbc.errors import RobotError
from postbc.robots.operator import Verdict
from postbc.robots.operator.facts import spoken
from postbc.robots.operator.page import Page
from postbc.robots.operator.requests import KEY_HEADER


def test_a_person_runs_an_episode_from_the_page(page):
    assert say(page, "start")["ignored"] == "no episode is asked for"
    waiting = preparing(page.desk, lambda: page.desk.prepare(7))
    page.desk.show({"success_rate": 0.5, "jitter_ms": 1.23456, "overruns": 0})
    state = json.loads(ask(page, "GET", "/state")[1])
    assert (state["phase"], state["episode"], state["instructions"]) == ("resetting", 7, "Put <b>the cube</b> back.")
    assert 0 < state["remaining"] <= 60
    assert state["facts"] == [["success rate", "50%"], ["jitter", "1.23 ms"], ["overruns", "0"]]
    assert say(page, "success")["ignored"] == "the episode has not started"
    assert say(page, "start")["phase"] == "running"
    assert waiting.end() is None
    assert say(page, "intervene")["intervening"]
    assert say(page, "failure")["phase"] == "ended"
    assert page.desk.verdict() is Verdict.FAILURE
    assert say(page, "success")["ignored"] == "the episode is over"
    assert say(page, "stop")["phase"] == "stopped"


def test_the_page_is_whole_and_closed(page):
    status, html, headers = ask(
        page, "GET", urlsplit(page.url).path + "?" + urlsplit(page.url).query, **{KEY_HEADER: None}
    )
    assert status == 200
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", headers["Content-Security-Policy"])[1]
    assert html.count(f'nonce="{nonce}"') == 2
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"(src|href)=\"(?!data:,)", html)  # nothing from elsewhere
    assert "Python" not in headers["Server"]
    assert page.key not in html
    assert nonce not in ask(page, "GET", "/?key=" + page.key)[2]["Content-Security-Policy"]


EVENT = '{"event": "stop"}'


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/state", None, {KEY_HEADER: None}, 403),
        ("GET", "/state", None, {KEY_HEADER: "wrong"}, 403),
        ("GET", "/state", None, {KEY_HEADER: "\xe9"}, 403),
        ("GET", "/", None, {}, 403),  # the page wants the key in its address
        ("GET", "/?key=wrong", None, {}, 403),
        ("GET", "/page.html", None, {}, 404),
        ("GET", "/../../etc/passwd", None, {}, 404),
        ("GET", "/event", None, {}, 404),
        ("GET", "/state", None, {"Host": "evil.example"}, 421),
        ("GET", "/state", None, {"Host": "127.0.0.1.evil.example:80"}, 421),
        ("GET", "/state", None, {"Host": None}, 421),
        ("GET", "/state", None, {"Origin": "http://evil.example"}, 403),
        ("PUT", "/state", None, {}, 501),
        ("POST", "/event", EVENT, {KEY_HEADER: None}, 403),
        ("POST", "/event", EVENT, {"Origin": None}, 403),
        ("POST", "/event", EVENT, {"Origin": "null"}, 403),
        ("POST", "/event", EVENT, {"Origin": "http://localhost:3000"}, 403),
        ("POST", "/event", EVENT, {"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ("POST", "/event", EVENT, {"Content_Type": "text/plain"}, 415),
        ("POST", "/event", EVENT, {"Content-Type": None}, 415),
        ("POST", "/event", EVENT, {"Transfer-Encoding": "chunked"}, 413),
        ("POST", "/event", None, {}, 413),
        ("POST", "/event", "", {"Content-Length": "-1"}, 413),
        ("POST", "/event", "", {"Content-Length": "9" * 9999}, 413),
        ("POST", "/event", "", {"Content-Length": "513"}, 413),
        ("POST", "/event", "stop", {}, 400),
        ("POST", "/event", '["stop"]', {}, 400),
        ("POST", "/event", '{"event": ["stop"]}', {}, 400),
        ("POST", "/event", '{"event": "halt"}', {}, 400),
        ("POST", "/event", "[" * 500, {}, 400),
        ("POST", "/event", "\xff", {}, 400),
        ("POST", "/state", EVENT, {}, 404),
    ],
)
def test_nobody_else_is_heard(page, method, path, body, headers, status):
    found, text, answered = ask(page, method, path, body, **headers)
    assert found == status, text
    assert page.key not in text
    assert answered.get("Content-Security-Policy", "default-src 'none'") == "default-src 'none'"
    assert not page.desk.stopped()


def test_a_tunnel_from_another_port_is_this_machine(page):
    assert ask(page, "POST", "/event", EVENT, Host="localhost:9000", Origin="http://localhost:9000")[0] == 200
    assert page.desk.stopped()


def test_clients_that_hang_block_nobody_and_are_hung_up_on(page):
    hanging = [socket.create_connection(("127.0.0.1", page.server_port)) for _ in range(40)]
    for client in hanging[::2]:
        client.sendall(b"POST /event HTTP/1.1\r\nContent-Length: 20\r\nHost: ")
    assert say(page, "stop")["phase"] == "stopped"
    until(lambda: len(page._open) <= 16)
    hanging[0].settimeout(PATIENCE_S)
    assert b"HTTP" not in hanging[0].recv(100)  # one of the first, hung up on to make room
    page.close()
    for client in hanging:
        client.close()


def test_the_page_is_on_this_machine_alone_and_a_port_is_one_robots(page):
    assert page.server_address[0] == "127.0.0.1"
    with pytest.raises(RobotError, match=rf"port {page.server_port} .*page_port: 0"):
        Page(page.desk, page.server_port, "")


def test_facts_are_spoken_with_their_units():
    facts = {"env_steps": 12345, "loop_hz": 29.97, "ms": 3, "rate": float("nan"), "task": "lift", "won_rate": 1}
    assert spoken(facts) == [
        ["env steps", "12,345"],
        ["loop", "30 Hz"],
        ["ms", "3"],
        ["rate", "–"],
        ["task", "lift"],
        ["won rate", "1"],
    ]
