"""The state between a person and the control loop: inputs post into it, the loop reads it, neither waits for the other.

    idle --prepare--> resetting --START--> running --SUCCESS, FAILURE, over--> ended --prepare--> resetting ...
    any phase --STOP--> stopped, for good

Every event is applied, or refused with a reason, before :meth:`Desk.post` returns; nothing is queued, so nothing is lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition

from postbc.errors import RobotError, StoppedError
from postbc.robots.clock import now
from postbc.robots.operator.contract import Fact, Verdict

_TICK_S = 0.5  # a wait looks at the clock this often at least
_LATE_S = (
    5.0  # after so long nobody means what they saw: a network may deliver a START when hands are in the scene again
)


class Event(StrEnum):
    """What a person says."""

    START = "start"  # the scene is reset, go
    SUCCESS = "success"
    FAILURE = "failure"
    STOP = "stop"
    INTERVENE = "intervene"  # take the arm, or give it back


class Phase(StrEnum):
    """Who waits for whom."""

    IDLE = "idle"  # the program works, or has given up waiting
    RESETTING = "resetting"  # the person resets the scene, nothing moves
    RUNNING = "running"  # the robot moves
    ENDED = "ended"  # the person said how the episode ended
    STOPPED = "stopped"


_VERDICTS = {Event.SUCCESS: Verdict.SUCCESS, Event.FAILURE: Verdict.FAILURE}
_WAITING = {
    Phase.IDLE: "no episode is asked for",
    Phase.RESETTING: "the episode has not started",
    Phase.RUNNING: "the episode is running",
    Phase.ENDED: "the episode is over",
    Phase.STOPPED: "everything was stopped",
}


@dataclass(frozen=True)
class State:
    """What a person gets to see of the desk.

    Attributes:
        phase: who waits for whom.
        episode: number of the episode that is prepared or runs.
        remaining_s: until the reset times out; None outside of a reset.
        intervening: whether the person has the arm.
        note: the last thing that was said or refused.
        facts: what the control loop showed.
        now: seconds of the desk's clock at which this was so.
    """

    phase: Phase
    episode: int
    remaining_s: float | None
    intervening: bool
    note: str
    facts: dict[str, Fact]
    now: float


class Desk:
    """Thread-safe; every method but :meth:`prepare` returns at once.

    Args:
        reset_timeout: seconds that :meth:`prepare` waits.
        absent_after: seconds without :meth:`seen` after which a running episode is stopped, once somebody was seen;
            None where somebody is at a terminal.
        teleoperated: whether the arm can be taken.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        reset_timeout: float,
        absent_after: float | None = None,
        teleoperated: bool = False,
        clock: Callable[[], float] = now,
    ) -> None:
        self._reset_timeout, self._absent_after, self._teleoperated = reset_timeout, absent_after, teleoperated
        self._clock = clock
        self._changed = Condition()
        self._phase, self._episode, self._note = Phase.IDLE, 0, ""
        self._why_stopped = ""
        self._deadline = 0.0
        self._verdict: Verdict | None = None
        self._intervening = False
        self._last_seen: float | None = None
        self._facts: dict[str, Fact] = {}

    def post(self, event: Event, source: str = "operator", seen: float | None = None) -> str | None:
        """Apply ``event``, said of the state that was so at ``seen`` (None: now).

        Returns None, or why it means nothing now and was ignored.
        """
        with self._changed:
            self._notice_absence()
            refused = self._refusal(event, 0.0 if seen is None else self._clock() - seen)
            if refused is None:
                self._note = f"{event} ({source})"
                self._apply(event)
            else:
                self._note = f"{event} ignored: {refused}"
            self._changed.notify_all()
            return refused

    def _refusal(self, event: Event, age: float) -> str | None:
        """Why ``event``, said of what was so ``age`` seconds ago, makes no sense in the present phase; None if it does."""
        if event is Event.STOP:
            return None
        if not 0 <= age <= _LATE_S:
            return f"it came {age:.1f} s after what was seen"
        if event is Event.INTERVENE and not self._teleoperated:
            return "no teleoperator is configured"
        meant = Phase.RESETTING if event is Event.START else Phase.RUNNING
        return None if self._phase is meant else _WAITING[self._phase]

    def _apply(self, event: Event) -> None:
        if event is Event.STOP:
            self._stop(self._note)
        elif event is Event.START:
            self._phase = Phase.RUNNING
            if self._last_seen is not None:  # whoever starts it is there
                self._last_seen = self._clock()
        elif event is Event.INTERVENE:
            self._intervening = not self._intervening
        else:
            # Whoever has the arm keeps it: a policy must not take over in the moment in which the episode ends.
            self._phase, self._verdict = Phase.ENDED, _VERDICTS[event]

    def _stop(self, why: str) -> None:
        if self._phase is not Phase.STOPPED:
            self._phase, self._note, self._why_stopped = Phase.STOPPED, why, why

    def seen(self) -> None:
        """Somebody looks at the page now."""
        with self._changed:
            self._notice_absence()
            self._last_seen = self._clock()

    def _notice_absence(self) -> None:
        """The dead man's switch: a robot that nobody looks at or can stop does not go on."""
        if self._phase is not Phase.RUNNING or self._absent_after is None or self._last_seen is None:
            return
        absent = self._clock() - self._last_seen
        if absent > self._absent_after:
            self._stop(f"stop: nobody looked at the operator's page for {absent:.1f} s and there is no terminal")

    def prepare(self, episode: int) -> None:
        """Wait until the person says that the scene is reset.

        Raises StoppedError for a stop, RobotError when ``reset_timeout`` is over.
        """
        with self._changed:
            self._require_going()
            self._phase, self._episode, self._verdict, self._intervening = Phase.RESETTING, episode, None, False
            self._deadline = self._clock() + self._reset_timeout
            try:
                self._await_start()
            finally:  # also when Ctrl-C ends the wait: a later START starts nothing
                self._phase = Phase.IDLE if self._phase is Phase.RESETTING else self._phase
            self._require_going()

    def _await_start(self) -> None:
        while self._phase is Phase.RESETTING:
            left = self._deadline - self._clock()
            if left <= 0:
                self._note = f"nobody started episode {self._episode} in time"
                raise RobotError(
                    f"Nobody said within {self._reset_timeout:g} s that the scene is reset for episode {self._episode}. "
                    "Nothing moved meanwhile. Start the stage again, it goes on from its last checkpoint; "
                    "finetune_robot.robot.operator.reset_timeout allows more time."
                )
            self._changed.wait(min(left, _TICK_S))

    def _require_going(self) -> None:
        if self._phase is Phase.STOPPED:
            raise StoppedError(f"Stopped by the operator: {self._why_stopped}.")

    def over(self) -> None:
        """The episode has ended by itself, for instance by its time limit; one that somebody ended stays as it was."""
        with self._changed:
            if self._phase is Phase.RUNNING:
                self._phase, self._note = Phase.ENDED, f"episode {self._episode} is over"
                self._changed.notify_all()

    def verdict(self) -> Verdict | None:
        """What was said of the running episode."""
        with self._changed:
            return self._verdict

    def stopped(self) -> bool:
        """Whether somebody asked to stop, or is gone."""
        with self._changed:
            self._notice_absence()
            return self._phase is Phase.STOPPED

    def intervening(self) -> bool:
        """Whether the person took the arm and has not given it back."""
        with self._changed:
            return self._intervening

    def show(self, facts: Mapping[str, Fact]) -> None:
        """Replace what is to be seen."""
        with self._changed:
            self._facts = dict(facts)

    def state(self) -> State:
        """What is to be seen now."""
        with self._changed:
            self._notice_absence()
            left = max(0.0, self._deadline - self._clock()) if self._phase is Phase.RESETTING else None
            return State(self._phase, self._episode, left, self._intervening, self._note, self._facts, self._clock())
