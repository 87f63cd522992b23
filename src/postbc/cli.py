"""The ``postbc`` command. What takes long to import is imported in the command that needs it."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from postbc.errors import PostbcError

if TYPE_CHECKING:
    from postbc.tracking.registry import Registry


class Commands(TyperGroup):
    """Prints a user's errors in one line and exits with 2; everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except PostbcError as error:
            typer.secho("Error: ", fg="red", bold=True, err=True, nl=False)
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Robot policies that are pretrained to be finetuned. The pipeline itself runs with `dvc repro`.",
)
models = typer.Typer(no_args_is_help=True, help="The registered models: list them, fetch one, choose the champion.")
app.add_typer(models, name="models")


@app.callback()
def main() -> None:
    """Keep ``postbc`` a group of commands."""


Uri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="sqlite:///FILE or a server's address; else register.tracking_uri of params.yaml here.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Reference = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="NAME@ALIAS or NAME/VERSION, for instance postbc-lift-postbc@champion."),
]


def _registry(uri: str | None) -> "Registry":
    from postbc.tracking.registry import Registry

    if uri is None:
        from postbc.config import load_config

        uri = load_config(Path()).register.tracking_uri
    return Registry(uri)


def _split(reference: str) -> tuple[str, str]:
    """Name and alias or version of ``name@alias`` or ``name/version``; a leading ``models:/`` is ignored."""
    name, separator, wanted = reference.removeprefix("models:/").replace("/", "@").partition("@")
    if not (name and separator and wanted):
        raise typer.BadParameter(f"{reference} is not NAME@ALIAS or NAME/VERSION.")
    return name, wanted


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, sort_keys=True))


@models.command("list")
def list_models(tracking_uri: Uri = None, as_json: Json = False) -> None:
    """List every registered version: aliases, success (on the robot where it was measured there), content."""
    found = _registry(tracking_uri).list_models()
    if as_json:
        return _print_json(found)
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "version", "aliases", "life", "success", "sha256", "created", header_style="bold")
    for row in found:
        success = "" if row["success"] is None else f"{100 * row['success']:.1f} % ({row['evaluated']})"
        cells = (row["name"], str(row["version"]), ", ".join(row["aliases"]), row["life"], success)
        table.add_row(*cells, row["sha256"][:12], row["created"].replace("T", " ")[:16])
    wide = None if sys.stdout.isatty() else 160  # a pipe has no width: do not wrap
    Console(width=wide).print(table if found else "No model is registered here.")


@models.command()
def pull(model: Reference, folder: Path, tracking_uri: Uri = None, as_json: Json = False) -> None:
    """Copy a model into FOLDER, checked against its recorded sha256; a policy is a LeRobot policy folder.

    FOLDER must be new or empty. It appears whole or not at all.
    """
    row = _registry(tracking_uri).pull(*_split(model), folder)
    if as_json:
        return _print_json(row | {"folder": os.fspath(folder)})
    typer.echo(f"{folder}: {row['name']} version {row['version']} ({row['life']}), sha256 {row['sha256'][:12]}")


@models.command()
def promote(
    model: Reference,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "champion",
    tracking_uri: Uri = None,
    as_json: Json = False,
) -> None:
    """Make MODEL the champion of its name, or give it another alias.

    It stays until `register` meets new content and chooses again.
    """
    name, wanted = _split(model)
    version = _registry(tracking_uri).promote(name, wanted, alias)
    if as_json:
        return _print_json({"name": name, "version": version, "alias": alias})
    typer.echo(f"{name}@{alias} is now version {version}.")


@app.command()
def collect(
    out: Annotated[Path, typer.Argument(help="HDF5 file to write, for instance data/lift/demos.hdf5.")],
    episodes: Annotated[int, typer.Option(help="Successful demonstrations to keep.")] = 20,
    operators: Annotated[str | None, typer.Option(help="Comma-separated names; default: the whole pool.")] = None,
    seed: Annotated[int, typer.Option(help="Sets of every size are prefixes of one seed's sequence.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor on every operator's imperfection; 0 is flawless.")] = 1.0,
) -> None:
    """Let scripted operators demonstrate the task of params.yaml, and write a robomimic HDF5 file.

    Afterwards: `dvc add data`, then `dvc repro`.
    """
    from postbc.config import load_config
    from postbc.sims.collect import collect as run

    _show_progress()
    names = operators.split(",") if operators else None
    tally = run(load_config(Path()).task, out, episodes, names, seed, scale)
    for name, attempts in sorted(tally.attempts.items()):
        typer.echo(f"{name:12s} {tally.successes[name]:4d} of {attempts} attempts kept")
    typer.echo(f"{out}: {len(tally.lengths)} episodes of {min(tally.lengths)} to {max(tally.lengths)} steps")


robot = typer.Typer(no_args_is_help=True, help="The robot: nothing moves unless a person armed it.")
app.add_typer(robot, name="robot")


@robot.command()
def arm(
    method: Annotated[str, typer.Argument(help="Whose policy may move the robot: bc or postbc.")],
    operator: Annotated[str, typer.Option(prompt="Your name", help="Who stands at the robot; it is recorded.")],
    lifetime: Annotated[float, typer.Option(help="Seconds until the permission expires.")] = 600.0,
) -> None:
    """Permit one run of finetune_robot with the present policy, robot and limits. Serves once, expires soon."""
    from postbc.robots import arming
    from postbc.robots.request import request_of

    wanted = request_of(f"finetune_robot@{method}")
    arming.issue(arming.FOLDER, wanted, operator, lifetime)
    typer.echo(
        f"{wanted.robot} is armed for policy {wanted.policy[:12]} for {lifetime:.0f} s: `dvc repro finetune_robot`"
    )


def _show_progress() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
