"""The ``postbc`` command. What takes long to import is imported in the command that needs it."""

from typing import Any

import typer
from typer.core import TyperGroup

from postbc.cli import check, coverage, export, inspect, models, preset, robot, tasks, watch
from postbc.errors import PostbcError


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
app.add_typer(models.app, name="models")
app.add_typer(robot.app, name="robot")
app.command()(coverage.coverage)
app.command()(inspect.inspect)
app.command()(check.check)
app.command()(export.export)
app.command("tasks")(tasks.list_tasks)
app.command()(preset.preset)
app.command()(tasks.collect)
app.command()(watch.watch)


@app.callback()
def main() -> None:
    """Keep ``postbc`` a group of commands."""
