"""``postbc models``: what is registered."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from postbc.tracking.registry import Registry

app = typer.Typer(no_args_is_help=True, help="The registered models: list them, fetch one, choose the champion.")

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
        from postbc.compose import load_config

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


@app.command("list")
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


@app.command()
def pull(model: Reference, folder: Path, tracking_uri: Uri = None, as_json: Json = False) -> None:
    """Copy a model into FOLDER, checked against its recorded sha256; a policy is a LeRobot policy folder.

    FOLDER must be new or empty. It appears whole or not at all.
    """
    row = _registry(tracking_uri).pull(*_split(model), folder)
    if as_json:
        return _print_json(row | {"folder": os.fspath(folder)})
    typer.echo(f"{folder}: {row['name']} version {row['version']} ({row['life']}), sha256 {row['sha256'][:12]}")


@app.command()
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
