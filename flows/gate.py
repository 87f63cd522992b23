"""The gate: a stage whose meta says ``gate: operator`` waits for a person before it runs.

It holds for runs that a deployment started, by hand or on schedule. A run from the command line has nobody to
ask in Prefect; there the stage itself refuses unless ``postbc robot arm`` armed it. Either way the stage uses
up a token (postbc.robots.arming), so a flow without this gate could not move a robot either.
"""

import contextlib
import math
import secrets
from collections.abc import Iterator
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.states import Failed
from pydantic import Field

from flows.graph import Stage
from flows.stage import is_up_to_date
from postbc.robots import arming
from postbc.robots.request import request_of

_POLL_S = 2  # how often a paused run asks whether it may go on


class NotApprovedError(RuntimeError):
    """The operator refused, or nobody answered."""


class Approval(RunInput):
    """What an operator answers. Nothing is approved unless ``approve`` is ticked."""

    operator: str = Field(min_length=1, pattern=r"\S", description="Your name; it is written into the record.")
    approve: bool = Field(default=False, description="The robot's surroundings are clear and it may move now.")
    note: str = Field(default="", description="Anything worth remembering.")


@contextlib.contextmanager
def approved(stage: Stage, force: bool = False) -> Iterator[None]:
    """Hold an operator's permission for ``stage`` during the block, if one is needed.

    None is needed for a stage without a gate, for one that DVC will not run, and outside deployments.
    Raises NotApprovedError if it was refused or not given in time.
    """
    deployed = runtime.deployment.id is not None
    if stage.gate is None or not deployed or (not force and is_up_to_date(stage.address)):
        yield
        return
    request = request_of(stage.address)
    approval = _ask(stage, request)
    token = arming.issue(arming.FOLDER, request, approval.operator.strip())
    try:
        yield
    finally:
        token.unlink(missing_ok=True)  # a permission that the stage did not use ends with it


def _ask(stage: Stage, request: arming.Request) -> Approval:
    """Pause the run until somebody answers. Raises NotApprovedError."""
    log = get_run_logger()
    log.info("Waiting at most %.0f s for an operator's approval of %s", stage.gate_timeout, stage.address)
    form = Approval.with_initial_data(description=_description(stage, request))
    try:
        # A key of its own: a run that is tried again would be given the old question, and its answer.
        key, limit = secrets.token_hex(8), math.ceil(stage.gate_timeout)
        answer = pause_flow_run(form, timeout=limit, poll_interval=_POLL_S, key=key)
    except FlowPauseTimeout as error:
        message = (
            f"Nobody approved {stage.address} within {stage.gate_timeout:.0f} s, so it was not run. "
            "Start the run again when an operator is there."
        )
        _fail_run(message)
        raise NotApprovedError(message) from error
    if not answer.approve:
        raise NotApprovedError(
            f"{answer.operator} refused {stage.address}, so it was not run. Note: {answer.note or '-'}"
        )
    log.info("%s approved %s. Note: %s", answer.operator, stage.address, answer.note or "-")
    return answer


def _fail_run(message: str) -> None:
    """End this run with ``message``: after a pause that has expired, Prefect would put its own in place of ours."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(runtime.flow_run.id), Failed(message=message), force=True)


def _description(stage: Stage, request: arming.Request) -> str:
    return (
        f"Stage **{stage.address}** wants to move robot **{request.robot}**.\n\n"
        f"- policy (sha256): `{request.policy}`\n"
        f"- limits (sha256): `{request.limits}`\n\n"
        "Tick *approve* only if you stand at the robot and can stop it. "
        f"The permission serves once, within {arming.LIFETIME_S / 60:.0f} minutes."
    )
