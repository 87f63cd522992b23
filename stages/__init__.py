"""One thin script a DVC stage: parse, call the library, write where dvc.yaml says."""

import os
import sys
from importlib.util import find_spec

PARENT = os.getppid()  # whoever started the stage; the imports that follow take seconds, in which it may end

if find_spec("postbc") is None:  # `dvc repro` runs the first python on the path
    raise SystemExit(f"{sys.executable} does not have postbc: source .venv/bin/activate (made by make setup)")
