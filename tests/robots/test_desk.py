"""What people say, whoever says it at the same moment."""

import os
import re
import signal
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from people import Clock, Waiting, preparing, until

from postbc.errors import StoppedError
from postbc.robots.operator import Verdict
from postbc.robots.operator.desk import Desk, Event, Phase


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


DeskAgainstModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
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

    def interrupt():
        until(lambda: desk.state().phase is Phase.RESETTING)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        threading.Thread(target=interrupt).start()
        desk.prepare(1)
    assert desk.post(Event.START) == "no episode is asked for"


def test_a_start_that_a_network_kept_back_starts_nothing_and_a_stop_is_never_too_late():
    clock = Clock()
    desk = Desk(600.0, clock=clock)
    waiting = preparing(desk)
    seen = desk.state().now
    clock.now += 20.0
    assert desk.post(Event.START, "page", seen) == "it came 20.0 s after what was seen"
    assert desk.post(Event.START, "page", float("nan")) is not None
    assert desk.post(Event.START, "page", desk.state().now) is None
    assert waiting.end() is None
    assert desk.post(Event.STOP, "page", seen) is None
