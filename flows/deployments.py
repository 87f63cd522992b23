"""The process that starts runs: two deployments of the pipeline, one run at a time.

``pipeline`` runs everything, on a schedule and when asked; ``finetune-robot`` runs what leads to the robot and then the
robot, only when asked. Both wait at the gate. Started by :mod:`flows.serve`, which sets the environment.
"""

import argparse

from prefect import serve
from prefect.deployments.runner import EntrypointType

from flows.pipeline import pipeline


def main() -> None:
    """Create the deployments and start their runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m flows.deployments", description=__doc__)
    parser.add_argument("--cron", required=True)
    module = EntrypointType.MODULE_PATH  # imported, so that every run is the flow of this source and no copy
    everything = pipeline.to_deployment("pipeline", cron=parser.parse_args().cron, paused=False, entrypoint_type=module)
    robot = pipeline.to_deployment(
        "finetune-robot", parameters={"targets": ["finetune_robot"]}, paused=False, entrypoint_type=module
    )
    serve(everything, robot, limit=1, query_seconds=2, print_starting_message=False)


if __name__ == "__main__":
    main()
