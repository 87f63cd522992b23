"""``postbc check``: whether recordings are fit to be trained on."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from postbc.demos.checks import Finding

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def check(
    path: Annotated[Path, typer.Argument(help="A recording, or a folder that is searched to any depth.")],
    task: Annotated[str | None, typer.Option(help="Task or preset whose rate and limits they must keep.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="A check whose errors do not count; may be repeated.")] = None,
    filter_key: Annotated[str | None, typer.Option(help="Of robomimic files, the subset to read.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Check recordings before anyone trains on them. Exits with 1 where there are errors that would stop an ingest.

    The table groups what was found in several episodes; --json lists all of it.
    """
    from postbc.compose import load_preset
    from postbc.demos.checks import Checker, Expected, Finding
    from postbc.demos.readers import find_sources
    from postbc.errors import DataError
    from postbc.progress import track
    from postbc.sims import get_task
    from postbc.sims.demonstrators.collect import default_task

    expected = Expected()
    if task:
        wanted = load_preset(task) or default_task(task)
        known = get_task(wanted.env)
        expected = Expected(
            wanted.fps, known.action_low, known.action_high, known.describe(wanted.options), known.action_names
        )
    checker, found = Checker(expected, allow or ()), list[Finding]()
    sources = find_sources(path, filter_key)
    for source in track(sources, "check", len(sources)):
        try:
            for episode in source.episodes():
                found += checker.add(episode, f"{source.path}: {episode.facts['name']}")
        except DataError as error:  # the rest can still be looked at
            found.append(Finding("unreadable", str(source.path), str(error).removeprefix(f"{source.path}: "), ""))
    found += checker.finish()
    stopping = sum(map(checker.stops, found))
    report = {"episodes": len(checker.lengths), "errors": stopping}
    if as_json:
        typer.echo(json.dumps({**report, "findings": [one.json() for one in found]}, indent=2))
    if html or not as_json:
        _show(found, f"{path}: {len(checker.lengths)} episodes, {stopping} errors", html, as_json)
    raise typer.Exit(1 if stopping else 0)


def _show(found: "list[Finding]", title: str, html: Path | None, quiet: bool) -> None:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from postbc.demos.checks import grouped

    table = Table("", "Check", "Where", "Found", title=Text(title), header_style="bold")
    for one, more in grouped(found):
        at = "" if one.frame is None else f" at frame {one.frame}"
        where = one.where + (f" and {more} more" if more else "")
        table.add_row(Text(str(one.severity), COLORS[one.severity]), one.check, Text(where), Text(one.message + at))
    if not quiet:
        Console(width=None if sys.stdout.isatty() else 160).print(table)
    if html:
        page = Console(record=True, file=io.StringIO(), width=200)
        page.print(table)
        html.parent.mkdir(parents=True, exist_ok=True)
        page.save_html(str(html))
        typer.echo(f"written: {html}", err=True)
