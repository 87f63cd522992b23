"""Stage register: every model of the run into MLflow, with its lineage; adds nothing that is already there."""

import argparse
from pathlib import Path

from postbc.config import Config
from postbc.storage.atomic import write_json
from postbc.tracking.run import register_run
from stages import paths
from stages.running import arguments, log, run


def main(config: Config, _: argparse.Namespace) -> None:
    rows = register_run(Path(), config)
    write_json(paths.METRICS / "registry.json", rows)
    log.info("%d models registered", len(rows))


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
