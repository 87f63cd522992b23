"""Who stands beside the robot: desk, terminal, page, checks and teleoperator."""

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postbc.compose import load_config
from postbc.config import OperatorConfig, TeleopConfig
from postbc.errors import ConfigError, RobotError, StoppedError
from postbc.robots.operator import (
    Checks,
    PersonOperator,
    Ranges,
    ScriptedOperator,
    Teleop,
    Verdict,
    make_checks,
    make_operator,
    make_teleop,
)
from postbc.robots.operator.desk import Desk, Event, Phase
from postbc.robots.operator.facts import spoken
from postbc.robots.operator.keyboard import Keyboard, events
from postbc.robots.operator.page import Page
from postbc.robots.operator.requests import KEY_HEADER

PATIENCE_S = 20.0
ROOT = Path(__file__).parents[2]
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


# --- the desk ---------------------------------------------------------------------------------------------------------


class DeskAgainstModel(RuleBasedStateMachine):
    """Whatever people, clients and the clock do, the desk says what a plain model says."""

    @initialize(teleoperated=st.booleans(), absent_after=st.sampled_from([None, 5.0]))
    def begin(self, teleoperated, absent_after):
        self.clock, self.teleoperated, self.absent_after = Clock(), teleoperated, absent_after
        self.desk = Desk(60.0, absent_after, teleoperated, self.clock)
        self.phase, self.verdict, self.intervening, self.waiting = Phase.IDLE, None, False, None
        self.deadline, self.last_seen, self.episode = 0.0, None, 0

    def _absence(self):
        looked_at = self.absent_after is not None and self.last_seen is not None
        if self.phase is Phase.RUNNING and looked_at and self.clock.now - self.last_seen > self.absent_after:
            self.phase = Phase.STOPPED

    @precondition(lambda self: self.phase is not Phase.RESETTING)
    @rule()
    def prepare(self):
        self._absence()
        self.episode += 1
        # A stop by absence is found by whoever reads next; the loop reads before it prepares.
        self.desk.stopped()
        self.waiting = Waiting(lambda: self.desk.prepare(self.episode))
        if self.phase is Phase.STOPPED:
            assert isinstance(self.waiting.end(), StoppedError)
            return
        until(lambda: self.desk.state().phase is Phase.RESETTING)
        self.phase, self.verdict, self.intervening = Phase.RESETTING, None, False
        self.deadline = self.clock.now + 60.0

    @rule(event=st.sampled_from(Event))
    def post(self, event):
        self._absence()
        refused = self.desk.post(event)
        if event is Event.STOP:
            expected, meant = Phase.STOPPED, True
        elif event is Event.START:
            expected, meant = Phase.RUNNING, self.phase is Phase.RESETTING
        elif event is Event.INTERVENE:
            expected, meant = self.phase, self.phase is Phase.RUNNING and self.teleoperated
            self.intervening ^= meant
        else:
            expected, meant = Phase.ENDED, self.phase is Phase.RUNNING
            self.verdict = Verdict(event) if meant else self.verdict
        if event is Event.START and meant and self.last_seen is not None:
            self.last_seen = self.clock.now
        assert (refused is None) == meant
        assert ("ignored" in self.desk.state().note) == (not meant)
        if meant and self.phase is Phase.RESETTING:
            assert isinstance(self.waiting.end(), StoppedError if event is Event.STOP else type(None))
        self.phase = expected if meant else self.phase

    @rule()
    def look(self):
        self._absence()
        self.desk.seen()
        self.last_seen = self.clock.now

    @rule(seconds=st.floats(0, 40))
    def pass_time(self, seconds):
        self.clock.now += seconds
        if self.phase is Phase.RESETTING and self.clock.now >= self.deadline:
            self.desk.post(Event.SUCCESS)  # wakes whoever waits
            assert re.search(r"within 60 s.*Nothing moved", str(self.waiting.end()))
            self.phase = Phase.IDLE

    @invariant()
    def agrees(self):
        self._absence()
        assert self.desk.stopped() == (self.phase is Phase.STOPPED)
        assert self.desk.verdict() is self.verdict
        assert self.desk.intervening() == self.intervening
        assert self.desk.state().phase is self.phase

    def teardown(self):
        if getattr(self, "waiting", None):
            self.desk.post(Event.STOP)
            self.waiting.end()


DeskAgainstModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestDesk = DeskAgainstModel.TestCase


def test_no_event_is_lost_whoever_posts_at_the_same_time():
    desk = Desk(60.0, teleoperated=True)
    waiting = preparing(desk)
    desk.post(Event.START)
    assert waiting.end() is None
    posters = [Waiting(lambda: [desk.post(Event.INTERVENE) for _ in range(333)]) for _ in range(5)]
    while any(p.thread.is_alive() for p in posters):
        desk.intervening(), desk.verdict(), desk.stopped(), desk.show({"step": 1})
    assert [p.end() for p in posters] == [None] * 5
    assert desk.intervening()  # 1665 times taken or given back


def _race(desk, *said):
    """Post everything that is said at the same moment."""
    gate = threading.Barrier(len(said))
    racers = [Waiting(lambda event=event: (gate.wait(), desk.post(event))) for event in said]
    assert [racer.end() for racer in racers] == [None] * len(said)


def test_stop_wins_over_a_start_at_the_same_moment():
    for _ in range(30):
        desk = Desk(60.0)
        waiting = preparing(desk, lambda desk=desk: desk.prepare(1))
        _race(desk, Event.START, Event.STOP)
        assert isinstance(waiting.end(), StoppedError | None)
        assert desk.stopped()
        with pytest.raises(StoppedError, match=r"stop \(operator\)"):
            desk.prepare(2)


def test_an_interrupted_wait_can_not_be_started_later():
    desk = Desk(60.0)
    alarm = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        desk.prepare(1)
    assert desk.post(Event.START) == "no episode is asked for"


# --- the terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal():
    """Both ends of a pseudo-terminal: what a person types into, what the process reads."""
    person, process = pty.openpty()
    with os.fdopen(process, "rb", 0) as stdin:
        yield person, stdin
    os.close(person)


def lflags(fd):
    return termios.tcgetattr(fd)[3]


def test_keys_reach_the_desk_one_by_one_and_the_mode_comes_back(terminal):
    person, stdin = terminal
    before, posted = termios.tcgetattr(stdin), []
    keyboard = Keyboard(stdin.fileno(), lambda event, source: posted.append((event, source)))
    assert not lflags(stdin) & (termios.ICANON | termios.ECHO)
    assert lflags(stdin) & termios.ISIG  # Ctrl-C
    os.write(person, b"\rxS\x1b[A\x1bOPfi\x1b[15~q")
    until(lambda: len(posted) == 5)
    keyboard.close()
    keyboard.close()
    assert [event.value for event, _ in posted] == ["start", "success", "failure", "intervene", "stop"]
    assert {source for _, source in posted} == {"terminal"}
    assert termios.tcgetattr(stdin) == before


def test_what_was_typed_before_is_not_heard(terminal):
    person, stdin = terminal
    os.write(person, b"\n")
    posted = []
    keyboard = Keyboard(stdin.fileno(), lambda event, _: posted.append(event))
    os.write(person, b"s")
    until(lambda: posted)
    keyboard.close()
    assert posted == [Event.SUCCESS]


def test_escape_and_space_stop():
    assert events("\x1b") == events(" ") == events("Q") == [Event.STOP]


def test_a_terminal_that_hangs_up_is_a_stop():
    person, process = pty.openpty()
    posted = []
    keyboard = Keyboard(process, lambda event, source: posted.append((event, source)))
    os.close(person)
    until(lambda: posted)
    keyboard.close()
    os.close(process)
    assert posted == [(Event.STOP, "the terminal is gone")]


SESSION = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from postbc.config import OperatorConfig
from postbc.robots.operator import PersonOperator
operator = PersonOperator(OperatorConfig(page_port=None))
operator.prepare(1, 0)
print("running", flush=True)
if sys.argv[1] == "raise":
    raise ValueError("something else broke")
for episode in range(2, 10**6):
    operator.prepare(episode, 0)
"""


@pytest.mark.parametrize(
    ("how", "typed", "words"), [("raise", b"", b"something else"), ("wait", b"\x03", b"KeyboardInterrupt")]
)
def test_the_terminal_is_as_before_after_an_error_and_after_ctrl_c(how, typed, words, terminal):
    person, stdin = terminal
    before = termios.tcgetattr(stdin)
    command = [sys.executable, "-c", SESSION, how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdin=stdin, start_new_session=True, **pipes) as session:
        until(lambda: not lflags(stdin) & termios.ICANON)
        while session.poll() is None and not select.select([session.stdout], [], [], 0.05)[0]:
            os.write(person, b"\n")  # heard as soon as the reset has begun
        os.write(person, typed)
        said = session.communicate(timeout=PATIENCE_S)[1]
    assert words in said
    assert termios.tcgetattr(stdin) == before


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def page():
    desk = Desk(60.0, teleoperated=True)
    served = Page(desk, 0, "Put <b>the cube</b> back.", True)
    yield served
    served.close()


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
    status, text, _ = ask(page, "POST", "/event", json.dumps({"event": event}))
    assert status == 200, text
    return json.loads(text)


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
    began = time.monotonic()
    page.close()
    assert time.monotonic() - began < 3
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


# --- the person -------------------------------------------------------------------------------------------------------


@contextmanager
def person(config, stdin=None, **parts):
    with Path(os.devnull).open() as nothing:
        operator = PersonOperator(config, stdin=nothing if stdin is None else stdin, **parts)
        try:
            yield operator
        finally:
            operator.close()


def test_with_neither_terminal_nor_page_there_is_no_operator():
    with pytest.raises(RobotError, match=r"terminal.*page_port"), person(NO_PAGE):
        pass


def test_terminal_and_page_speak_of_one_desk(terminal):
    typing, stdin = terminal
    before = lflags(stdin)
    with person(ANY_PORT, stdin) as operator:
        assert lflags(stdin) == before  # until the robot is connected, which may ask something
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        os.write(typing, b"\n")
        assert waiting.end() is None
        assert operator.verdict() is None
        assert say(operator.page, "success")["phase"] == "ended"
        assert operator.verdict() is Verdict.SUCCESS
        waiting = preparing(operator.desk, lambda: operator.prepare(2, 0))
        until(lambda: operator.desk.state().phase is Phase.RESETTING)
        os.write(typing, b"q")
        assert isinstance(waiting.end(), StoppedError)
        assert operator.stopped()
        assert lflags(stdin) == before  # an ended session gives everything back by itself


def test_the_page_alone_is_enough_and_its_address_is_logged(caplog):
    caplog.set_level("INFO", "postbc")
    with person(ANY_PORT) as operator:
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        say(operator.page, "start")
        assert waiting.end() is None
        assert operator.page.url in caplog.text
        assert f"Episode 1: {ANY_PORT.instructions}" in caplog.text
        assert not operator.stopped()


def test_a_reset_that_takes_too_long_ends_the_session(terminal):
    _, stdin = terminal
    with person(replace(NO_PAGE, reset_timeout=0.05), stdin) as operator:
        with pytest.raises(RobotError, match=r"within 0\.05 s.*episode 4.*reset_timeout"):
            operator.prepare(4, 0)
        assert not operator.stopped()
        assert lflags(stdin) & termios.ICANON


def _absent(operator):
    """Run an episode from the page, then look away for 6 s of the desk's time."""
    clock = Clock()
    operator.desk._clock = clock
    waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
    clock.now += 30
    assert not operator.stopped()  # nothing moves during a reset
    say(operator.page, "start")
    assert waiting.end() is None
    clock.now += 4
    ask(operator.page, "GET", "/state")
    clock.now += 4
    assert not operator.stopped()
    clock.now += 2
    return operator.stopped()


def test_dead_man_without_a_terminal_a_running_episode_that_nobody_looks_at_stops():
    with person(ANY_PORT) as operator:
        assert _absent(operator)
        ask(operator.page, "GET", "/state")
        assert operator.stopped()  # coming back does not start it again
        with pytest.raises(StoppedError, match=r"nobody looked.*6\.0 s"):
            operator.prepare(2, 0)


def test_dead_man_somebody_who_returns_too_late_finds_it_stopped():
    with person(ANY_PORT) as operator:
        operator.desk._clock = clock = Clock()
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        say(operator.page, "start")
        assert waiting.end() is None
        clock.now += 6
        ask(operator.page, "GET", "/state")
        assert operator.stopped()


def test_dead_man_a_person_at_the_terminal_needs_no_page(terminal):
    with person(ANY_PORT, terminal[1]) as operator:
        assert not _absent(operator)


def test_reading_the_desk_takes_no_time_while_clients_poll(page):
    polling = threading.Event()
    clients = [Waiting(lambda: [ask(page, "GET", "/state") for _ in iter(polling.is_set, True)]) for _ in range(3)]
    slowest = []
    for step in range(200):
        began = time.monotonic()
        page.desk.show({"step": step})
        page.desk.stopped(), page.desk.verdict(), page.desk.intervening()
        slowest.append(time.monotonic() - began)
        time.sleep(0.001)
    polling.set()
    assert [client.end() for client in clients] == [None] * 3
    assert np.median(slowest) < 0.005


# --- checks -----------------------------------------------------------------------------------------------------------

FEATURES = {"gripper.pos": float, "ee.z": float, "front": (48, 64, 3)}


def test_ranges_include_their_ends_and_nan_is_in_none():
    ranges = Ranges({"gripper.pos": [5, 60], "ee.z": [0.1, None]})
    assert ranges.check({"gripper.pos": 5.0, "ee.z": 0.1, "front": None})
    assert ranges.check({"gripper.pos": np.float32(60), "ee.z": 1e9})
    for gripper, height in ((4.9, 0.2), (60.1, 0.2), (30, 0.09), (np.nan, 0.2), (30, np.nan)):
        assert not ranges.check({"gripper.pos": gripper, "ee.z": height})
    with pytest.raises(RobotError, match=r"asks for ee\.z; the robot observed gripper\.pos"):
        ranges.check({"gripper.pos": 30})


def test_a_check_must_hold_in_a_row_and_then_stays():
    checks = Checks([Ranges({"x": [1, None]})], hold=3)
    seen = []
    for value in (1, 1, 0, 1, 1, 1, 0):
        checks.watch({"x": value})
        seen.append(checks.held)
    assert seen == [False] * 5 + [True] * 2
    checks.reset()
    assert not checks.held


class Slow:
    """A check that takes as long as it is told to."""

    def __init__(self):
        self.go, self.looked = threading.Semaphore(0), 0

    def check(self, observation):
        self.go.acquire()
        self.looked += 1
        return observation["x"] > 0


def test_a_slow_check_holds_up_nobody_and_forgets_the_last_episode():
    slow = Slow()
    checks = Checks([], 2, [slow])
    for value in range(1, 50):
        checks.watch({"x": value})
    slow.go.release()
    until(lambda: slow.looked == 1)
    checks.reset()  # while it looks at something of the first episode, or is about to
    slow.go.release(2)
    checks.watch({"x": 1})
    until(lambda: slow.looked >= 2)
    assert not checks.held
    slow.go.release(10)
    until(lambda: checks.watch({"x": 1}) or checks.held)
    slow.go.release(10)
    checks.close()


def test_an_error_of_a_slow_check_reaches_the_loop():
    checks = Checks([], 1, [Ranges({"x": [0, 1]})])
    with pytest.raises(RobotError, match="asks for x"):
        until(lambda: checks.watch({"y": 0}))
    checks.close()


def test_the_persons_word_wins_over_a_check(terminal):
    with person(NO_PAGE, terminal[1], checks=Checks([Ranges({"x": [1, None]})])) as operator:
        for word, verdict in ((None, Verdict.SUCCESS), (b"f", Verdict.FAILURE)):
            operator.desk._phase = Phase.IDLE
            waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
            os.write(terminal[0], b"\n")
            assert waiting.end() is None
            operator.watch({"x": 0})
            assert operator.verdict() is None
            if word:
                os.write(terminal[0], word)
                until(operator.verdict)
            operator.watch({"x": 1})
            assert operator.verdict() is verdict


def test_checks_name_what_the_robot_does_not_observe():
    assert make_checks(OperatorConfig(), FEATURES).parts == []
    assert len(make_checks(OperatorConfig(success_when={"ee.z": [0, 1]}), FEATURES).parts) == 1
    for name in ("ee.x", "front"):
        with pytest.raises(ConfigError, match=rf"names {name}; .* are gripper\.pos, ee\.z"):
            make_checks(OperatorConfig(success_when={name: [0, 1]}), FEATURES)


def _classifier_folder(tmp_path, **changes):
    config = {
        "type": "reward_classifier",
        "num_classes": 2,
        "input_features": {"observation.images.front": {"type": "VISUAL", "shape": [3, 128, 128]}},
    }
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    return OperatorConfig(reward_classifier=str(tmp_path))


def test_a_reward_classifier_needs_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("postbc.robots.operator.classifier.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'lerobot\[transformers-dep\]'"):
        make_checks(_classifier_folder(tmp_path), FEATURES)


def test_a_folder_that_is_no_classifier_of_this_robots_cameras_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no folder of a LeRobot model"):
        make_checks(OperatorConfig(reward_classifier=str(tmp_path / "nowhere")), FEATURES)
    with pytest.raises(ConfigError, match="not a LeRobot reward classifier"):
        make_checks(_classifier_folder(tmp_path, type="act"), FEATURES)
    with pytest.raises(ConfigError, match="reads the cameras front; the robot has none"):
        make_checks(_classifier_folder(tmp_path), {"ee.z": float})


def test_a_real_reward_classifier_says_what_lerobot_says(tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig
    from lerobot.rewards.classifier.modeling_classifier import Classifier
    from lerobot.rewards.classifier.processor_classifier import make_classifier_processor
    from safetensors.torch import load_file, save_file

    encoder = transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8], depths=[1, 1, 1], layer_type="basic")
    )
    encoder.save_pretrained(tmp_path / "encoder")
    camera = {"observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 64, 64))}
    config = RewardClassifierConfig(
        input_features=camera,
        model_name=str(tmp_path / "encoder"),
        num_cameras=1,
        hidden_dim=8,
        latent_dim=8,
        device="cpu",
    )
    model = Classifier(config).eval()
    model.save_pretrained(tmp_path / "model")
    stats = {"observation.images.front": {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}}
    make_classifier_processor(config, stats)[0].save_pretrained(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    ready = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    expected = model.predict([ready]).probabilities.item()
    asked = OperatorConfig(reward_classifier=str(tmp_path / "model"), success_hold=1)
    for threshold, done in ((expected - 1e-3, True), (expected + 1e-3, False)):
        checks = make_checks(replace(asked, reward_threshold=threshold), {"front": (64, 64, 3)})
        check = checks.parts[0].check
        assert check.probability({"front": image, "ee.z": 0.0}) == pytest.approx(expected, abs=1e-5)
        assert check.check({"front": image}) is done
        checks.close()
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["classifier_head.0.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks 1 of its weights, classifier_head\.0\.weight"):
        make_checks(asked, {"front": (64, 64, 3)})
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"encoder that config.json names must be on this machine"):
        make_checks(asked, {"front": (64, 64, 3)})


# --- interventions ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leader():
    """A LeRobot teleoperator, registered as a plugin would be."""
    import leader_arm

    return leader_arm


TELEOP = TeleopConfig("test_leader", {"joints": 2})
ACTIONS = {"joint_0.pos": float, "joint_1.pos": float}


def test_the_persons_action_while_the_person_has_the_arm(leader, terminal):
    teleop = make_teleop(TELEOP, ACTIONS)
    with person(NO_PAGE, terminal[1], teleop=teleop) as operator:
        assert not teleop.device.is_connected
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        until(lambda: teleop.device.is_connected)
        os.write(terminal[0], b"\n")
        assert waiting.end() is None
        assert teleop.action() is None
        os.write(terminal[0], b"i")
        until(operator.intervening)
        assert teleop.action() == {"joint_0.pos": 0.5, "joint_1.pos": 0.5}
        os.write(terminal[0], b"i")
        until(lambda: not operator.intervening())
        teleop.device.button = True  # its own word
        assert operator.intervening()
        assert teleop.action() is not None
    assert (teleop.device.connects, teleop.device.disconnects) == (1, 1)
    assert teleop.action() is None


def test_a_device_that_fails_to_connect_is_let_go(leader, terminal):
    teleop = make_teleop(replace(TELEOP, options={"joints": 2, "broken": True}), ACTIONS)
    with person(NO_PAGE, terminal[1], teleop=teleop) as operator:
        with pytest.raises(OSError, match="no motor"):
            operator.prepare(1, 0)
        assert lflags(terminal[1]) & termios.ICANON
    assert (teleop.device.connects, teleop.device.disconnects) == (1, 1)


def test_a_teleoperator_must_fit_the_robot_and_be_known(leader):
    with pytest.raises(ConfigError, match=r"gives joint_0\.pos, joint_1\.pos and the robot takes action\.0"):
        make_teleop(TELEOP, {"action.0": float})
    with pytest.raises(ConfigError, match=r"LeRobot knows .*so101_leader.*test_leader"):
        make_teleop(TeleopConfig("no_such_leader"), ACTIONS)
    with pytest.raises(ConfigError, match="wings"):
        make_teleop(TeleopConfig("test_leader", {"wings": 2}), ACTIONS)
    assert make_teleop(TeleopConfig(), ACTIONS) is None


def test_the_leader_arm_of_an_so101_fits_its_follower(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("scservo_sdk")
    joints = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    actions = {f"{joint}.pos": float for joint in joints}
    assert isinstance(make_teleop(TeleopConfig("so101_leader", {"port": "/dev/null"}), actions), Teleop)


# --- configuration ----------------------------------------------------------------------------------------------------


class SimulatedRobot:
    observation_features = FEATURES
    action_features = ACTIONS
    placed, done = None, False

    def place(self, seed):
        self.placed = seed

    def succeeded(self):
        return self.done


def test_a_simulated_robot_operates_itself():
    robot = SimulatedRobot()
    operator = make_operator(robot, OperatorConfig(success_when={"ee.z": [0.1, None]}, success_hold=2), simulated=True)
    assert isinstance(operator, ScriptedOperator)
    operator.prepare(1, 42)
    assert robot.placed == 42
    for height, verdict in ((0.2, None), (0.2, Verdict.SUCCESS)):
        operator.watch({"ee.z": height, "gripper.pos": 0.0})
        assert operator.verdict() is verdict
    operator.prepare(2, 43)
    assert operator.verdict() is None
    robot.done = True
    assert operator.verdict() is Verdict.SUCCESS
    operator.show({"step": 1})
    operator.close()
    assert not operator.stopped()
    assert not operator.intervening()


def test_a_real_robot_gets_a_person(monkeypatch):
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(RobotError, match="needs an operator"):
            make_operator(SimulatedRobot(), NO_PAGE, simulated=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reset_timeout": 0},
        {"page_port": 65536},
        {"absent_after": 0.5},
        {"success_hold": 0},
        {"reward_threshold": 1.0},
        {"success_when": {"x": [2, 1]}},
        {"success_when": {"x": [1, 1]}},
        {"success_when": {"x": [None, None]}},
        {"success_when": {"x": [1]}},
        {"success_when": {"x": 1}},
        {"success_when": {"x": ["0", None]}},
        {"success_when": {"x": [float("nan"), None]}},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OperatorConfig(**wrong)


def test_options_without_a_teleoperator_are_refused():
    with pytest.raises(ConfigError, match="teleop"):
        TeleopConfig(options={"port": "/dev/ttyACM1"})


YAML = """
finetune_robot:
  robot:
    operator:
      instructions: Put the cube back.
      page_port: null
      success_when: {gripper.pos: [5, 60], ee.z: [0.1, null]}
      teleop: {type: so101_leader, options: {port: /dev/ttyACM1}}
"""


def test_params_yaml_describes_the_operator(tmp_path):
    import yaml

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params.setdefault("finetune_robot", {}).setdefault("robot", {}).update(
        yaml.safe_load(YAML)["finetune_robot"]["robot"]
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    found = load_config(tmp_path).finetune_robot.robot.operator
    assert found == OperatorConfig(
        instructions="Put the cube back.",
        page_port=None,
        success_when={"gripper.pos": [5, 60], "ee.z": [0.1, None]},
        teleop=TeleopConfig("so101_leader", {"port": "/dev/ttyACM1"}),
    )


def test_importing_an_operator_imports_nothing_heavy():
    code = "import postbc.robots.operator, sys; print({m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("torch", "lerobot", "asyncio", "prefect") if f"'{name}'" in loaded]
