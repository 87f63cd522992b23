"""One thin script a DVC stage: parse, call the library, write where dvc.yaml says."""

import sys
from importlib.util import find_spec

if find_spec("postbc") is None:  # `dvc repro` runs the first python on the path
    raise SystemExit(f"{sys.executable} does not have postbc: source .venv/bin/activate (made by make setup)")
