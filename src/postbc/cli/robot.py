"""``postbc robot``: permission to move."""

import subprocess
import sys
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The robot: nothing moves unless a person armed it.")


@app.command()
def check(method: Annotated[str, typer.Argument(help="Whose policy: one of `methods`.")]) -> None:
    """Say how the robot of params.yaml, the policy and the limits fit together. Connects and moves nothing."""
    done = subprocess.run([sys.executable, "-m", "stages.finetune_robot", "--method", method, "--check"], check=False)
    raise typer.Exit(done.returncode)


@app.command()
def arm(
    method: Annotated[str, typer.Argument(help="Whose policy may move the robot: one of `methods`.")],
    operator: Annotated[str, typer.Option(prompt="Your name", help="Who stands at the robot; it is recorded.")],
    lifetime: Annotated[float, typer.Option(help="Seconds until the permission expires.")] = 600.0,
) -> None:
    """Permit one run of finetune_robot with the present policy, robot and limits. Serves once, expires soon."""
    from postbc.robots import arming
    from postbc.robots.request import request_of

    wanted = request_of(f"finetune_robot@{method}")
    arming.issue(arming.FOLDER, wanted, operator, lifetime)
    what = f"{wanted.robot} is armed for policy {wanted.policy[:12]} for {lifetime:.0f} s"
    typer.echo(f"{what}: `dvc repro -s finetune_robot@{method}`")  # without -s another policy may come of it
