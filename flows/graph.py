"""The stages of dvc.yaml in an order in which each comes after what it needs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from postbc.errors import ConfigError

_GATES = ("operator",)


@dataclass(frozen=True)
class Stage:
    """A stage and the hints in its ``meta: {prefect: {...}}``.

    Attributes:
        address: DVC's name for it, for instance ``pretrain@bc``.
        retries: how often it is tried again after a failure.
        timeout: seconds after which a try is stopped; None for no limit.
        gate: ``operator`` if somebody has to approve before it runs.
        gate_timeout: seconds for which an approval is waited for.
    """

    address: str
    retries: int = 0
    timeout: float | None = None
    gate: str | None = None
    gate_timeout: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse impossible hints."""
        sane = isinstance(self.retries, int) and self.retries >= 0 and self.gate in (None, *_GATES)
        limits = [limit for limit in (self.timeout, self.gate_timeout) if limit is not None]
        if not sane or not all(isinstance(limit, int | float) and limit > 0 for limit in limits):
            raise ConfigError(
                f"dvc.yaml: meta.prefect of {self.address} is impossible: {self}. Expected retries >= 0, "
                f"timeout > 0, gate_timeout > 0 (both in seconds), gate: {' or '.join(_GATES)}."
            )

    @classmethod
    def from_meta(cls, address: str, meta: Mapping[str, Any] | None) -> "Stage":
        """Read the hints. Raises ConfigError for an unknown or impossible one."""
        hints = (meta or {}).get("prefect") or {}
        known = set(cls.__dataclass_fields__) - {"address"}
        if not isinstance(hints, Mapping) or set(hints) - known:
            raise ConfigError(f"dvc.yaml: meta.prefect of {address} is {hints!r}; known are {sorted(known)}.")
        return cls(address, **hints)


def load(root: Path, targets: Iterable[str] = ()) -> list[Stage]:
    """The stages with a command, in order of execution, restricted to ``targets`` and what they need.

    A target is an address or a name that stands for all its members (``pretrain`` for ``pretrain@bc``).
    Raises ConfigError for a missing or invalid dvc.yaml and for an unknown target.
    """
    if not (root / "dvc.yaml").is_file():
        raise ConfigError(f"There is no dvc.yaml in {root.resolve()}; run commands in the project's root.")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return list(_ordered(repo.index.graph, list(targets)))
    except DvcException as error:
        raise ConfigError(f"dvc.yaml: {error}") from error


def _ordered(graph: Any, targets: list[str]) -> Iterator[Stage]:
    """Depth first, dependencies before dependents (DVC's edges point from a stage to what it needs)."""
    import networkx

    members = {node.addressing: node for node in graph if getattr(node, "cmd", None)}
    chosen = [member for target in targets for member in _resolve(target, list(members))]
    needed = set(graph)
    if targets:
        sources = {members[address] for address in chosen}
        needed = sources.union(*(networkx.descendants(graph, source) for source in sources))
    for node in networkx.dfs_postorder_nodes(graph):
        if node in needed and node.addressing in members:
            yield Stage.from_meta(node.addressing, getattr(node, "meta", None))


def _resolve(target: str, addresses: list[str]) -> list[str]:
    found = [address for address in addresses if address == target or address.startswith(f"{target}@")]
    if not found:
        close = get_close_matches(target, addresses, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"dvc.yaml has no stage {target!r}; it has {', '.join(sorted(addresses))}.{hint}")
    return found
