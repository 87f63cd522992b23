"""``postbc inspect``: what recordings hold, in any readable format."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from postbc.demos.inspection import Inspection, KeyRange


def inspect(
    path: Annotated[Path, typer.Argument(help="A recording, or a folder that is searched to any depth.")],
    filter_key: Annotated[str | None, typer.Option(help="Of robomimic files, the subset to read.")] = None,
    page: Annotated[Path | None, typer.Option(help="Draw a page of plots; of several recordings one each.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Say what recordings hold: episodes, lengths, keys, shapes, ranges, rates, tasks, success."""
    from rich.console import Console

    from postbc.demos.inspection import Inspection, draw
    from postbc.demos.readers import find_sources
    from postbc.progress import track

    sources = find_sources(path, filter_key)
    found = [Inspection.of(source) for source in track(sources, "inspect", len(sources))]
    if as_json:
        typer.echo(json.dumps([one.json() for one in found], indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        for one in found:
            _show(one, console)
    for number, one in enumerate(found, 1):
        if page:
            target = page if len(found) == 1 else page.with_stem(f"{page.stem}-{number}")
            draw(one, target)
            typer.echo(f"drawn: {target}", err=True)


def _show(found: "Inspection", console: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    told = found.json()
    length = told["length"]
    console.print(
        f"[bold]{escape(told['path'])}[/]: {told['format']}, {told['episodes']} episodes, {told['steps']:,} steps"
    )
    rate = ", ".join(f"{fps:g} Hz" for fps in told["fps"]) or "rate not recorded"
    console.print(f"  {length['shortest']} to {length['longest']} steps, median {length['median']:g}; {rate}")
    console.print(f"  {told['episodes_with_success']} of {told['episodes']} episodes hold a success")
    for name in ("tasks", "operators"):
        for value, count in told[name].items():
            console.print(f"  {name[:-1]}: {escape(value)} ({count} episodes)")
    table = Table("Key", "Shape", "Type", "Range", header_style="bold")
    for key, known in found.keys.items():
        table.add_row(escape(key), "×".join(map(str, known.shape)) or "1", known.dtype, _range(known))
    console.print(table)


def _range(known: "KeyRange") -> str:
    """Of up to four dimensions each, else of all together."""
    if len(known.low) <= 4:
        said = ", ".join(f"{low:.4g} … {high:.4g}" for low, high in zip(known.low, known.high, strict=True))
    else:
        said = f"{known.low.min():.4g} … {known.high.max():.4g}, {len(known.low)} dimensions"
    wrong = f"; {known.not_finite} frames not finite" if known.not_finite else ""
    return said + wrong + (f"; {known.other_shapes} episodes of another shape" if known.other_shapes else "")
