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
