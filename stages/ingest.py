"""Stage ingest: recordings under data/ into the demonstration store."""

import argparse
from pathlib import Path

from postbc.config import Config
from postbc.demos.ingest import ingest
from postbc.storage.atomic import write_json
from stages import paths
from stages.running import arguments, log, run


def main(config: Config, _: argparse.Namespace) -> None:
    counts = ingest(Path(config.ingest.source), paths.DEMOS, config.task.fps, config.ingest.max_episodes)
    write_json(paths.METRICS / "ingest.json", counts)
    log.info("%d episodes, %d steps", counts["episodes"], counts["steps"])


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
