"""Stage report: one self-contained page, reports/index.html."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from postbc.config import Config
from postbc.reporting.page import build_page
from postbc.reporting.table import terminal_table
from postbc.storage.atomic import atomic_write
from stages import paths
from stages.running import arguments, log, run


def main(config: Config, options: argparse.Namespace) -> None:
    if options.table:
        Console(width=None if sys.stdout.isatty() else 120).print(terminal_table(Path()))
        return
    atomic_write(paths.REPORT, build_page(Path(), config))
    log.info("open %s in a browser", paths.REPORT)


if __name__ == "__main__":
    parser = arguments(__doc__ or "", method=False)
    parser.add_argument("--table", action="store_true", help="print the table of results instead")
    run(main, parser)
