"""Prefect's server, for this machine's own pages and programs alone: ``uvicorn --factory flows.server:app``.

Prefect answers by whatever name it is called. So a page of the operator's browser whose name was made to lead to this
machine (DNS rebinding) could approve a robot run. MLflow refuses such names by itself.
"""

from typing import Any

from fastapi.middleware.trustedhost import TrustedHostMiddleware
from prefect.server.api.server import create_app

from flows.environment import HOST


def app() -> Any:
    """The application, as ``prefect server start`` makes it, behind a check of the Host that is asked for."""
    # Around it, not in it: Prefect's automations ask the same application in memory, by another name.
    return TrustedHostMiddleware(create_app(final=True), allowed_hosts=[HOST, "localhost"])
