"""What a stage imports, read from the source: the modules whose edit must make DVC run it again."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def module_file(name: str) -> Path | None:
    """The source file of a module of this project."""
    base = ROOT / ("src" if name.split(".")[0] == "postbc" else "") / Path(*name.split("."))
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


def _names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("postbc", "stages")}


def closure(stage: str) -> set[Path]:
    """Every file of this project that ``python -m stages.<stage>`` may import, at the top or inside a function."""
    waiting, seen = [f"stages.{stage}"], set()
    while waiting:
        file = module_file(waiting.pop())
        if file and file not in seen:
            seen.add(file)
            waiting += _names(ast.parse(file.read_text()))
    return seen


def expected_deps(stage: str) -> set[str]:
    """The closure as dvc.yaml writes it: a package by its folder, a module beside the packages by its file."""
    package = ROOT / "src" / "postbc"
    deps = set()
    for file in closure(stage):
        if file.name == "__init__.py" and file.parent in (package, ROOT / "stages"):
            continue  # a docstring and a version
        inside = package in file.parents and file.parent != package
        path = package / file.relative_to(package).parts[0] if inside else file
        deps.add(path.relative_to(ROOT).as_posix())
    return deps
