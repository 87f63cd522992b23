"""The model registry: content in, versions and aliases out.

A version is identified by its model's name and the fingerprint of its folder (sha256 over the manifest):
registering the same bytes again adds nothing, and a lost database is rebuilt by registering again. With
SQLite the artifacts lie in ``mlartifacts/`` beside the database, where ``mlflow server
--artifacts-destination ./mlartifacts`` serves them too.
"""

import shutil
import tempfile
import warnings
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from postbc.errors import IntegrityError, RegistryError
from postbc.storage.atomic import atomic_folder
from postbc.storage.manifest import check_manifest, difference, fingerprint
from postbc.tracking.champion import PLACES
from postbc.tracking.client import absolute_uri, database, global_uri, in_our_words, quiet_mlflow, shown
from postbc.tracking.models import ModelFolder, signature

_ARTIFACTS = "mlartifacts"
_SERVED = "mlflow-artifacts:/"  # how a server names what lies in its mlartifacts/
_RESULTS = {f"{place}.{key}" for place in PLACES for key in ("success", "low", "high", "episodes")} | {"env_steps"}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class Registry:
    """The registered models at one tracking URI."""

    def __init__(self, tracking_uri: str, experiment: str = "postbc") -> None:
        """``sqlite:///mlflow.db`` or a server's address; ``experiment`` holds what is registered."""
        self.uri, self.experiment = absolute_uri(tracking_uri), experiment

    @cached_property
    def client(self) -> Any:
        """MLflow's client; the first use of a new database makes its tables."""
        client = quiet_mlflow().MlflowClient(self.uri, self.uri)
        with in_our_words(self.uri, "Opening the registry"):
            client.search_registered_models(max_results=1)
        quiet_mlflow()  # MLflow's migrations set the loggers anew
        return client

    @cached_property
    def experiment_id(self) -> str:
        """The experiment that holds runs and models, made on first use."""
        found = self.client.get_experiment_by_name(self.experiment)
        file = database(self.uri)
        own = None if file is None else file.parent / _ARTIFACTS / self.experiment
        if found is not None and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found is not None and own is not None and _moved(found.artifact_location, own):
            # What MLflow stores of this experiment from now on would be where the project was, or the one it is a copy of.
            self.client.rename_experiment(
                found.experiment_id, f"{self.experiment} until {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            )
            found = None
        if found is None:
            location = None if own is None else own.as_uri()
            return str(self.client.create_experiment(self.experiment, artifact_location=location))
        location = found.artifact_location
        afar = location.startswith("file:") and not _local(location).parent.is_dir()
        if (file is None and afar) or (file is not None and location.startswith(_SERVED)):
            raise RegistryError(
                f"Experiment {self.experiment} was made in another way than through {shown(self.uri)} and keeps its "
                f"artifacts in {shown(location)}, which cannot be written from here. Set MLFLOW_TRACKING_URI to the server "
                "or file that made it, or register.prefix in params.yaml to another name."
            )
        return str(found.experiment_id)

    def register(self, model: ModelFolder, run_id: str | None = None) -> int:
        """The version that holds ``model``'s bytes; a new one only when there is none yet.

        Raises IntegrityError when the folder differs from its manifest.
        """
        check_manifest(model.path)
        sha256 = fingerprint(model.path)
        with in_our_words(self.uri, f"Registering {model.path} as {model.name}"):
            known = self._find(model.name, sha256)
            return known if known is not None else self._add(model, sha256, run_id)

    def _find(self, name: str, sha256: str) -> int | None:
        query = f"name={_quoted(name)} and tags.sha256={_quoted(sha256)}"
        usable = [v for v in self.client.search_model_versions(query) if self.reachable(v)]
        return min((int(v.version) for v in usable), default=None)

    def reachable(self, version: Any) -> bool:
        """False for a version whose artifacts were deleted, or moved away from this machine's database."""
        try:
            location = self._location(version)
        except quiet_mlflow().exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return database(self.uri) is None or not location.startswith("file:") or _local(location).is_dir()

    def _location(self, version: Any) -> str:
        """Where the registered folder lies: below mlartifacts/, behind the server that holds them, or in a bucket."""
        model = self.client.get_logged_model(version.tags["model_id"])
        location = f"{model.artifact_location}/{version.tags['folder']}"
        scheme = urlparse(location).scheme
        if scheme not in ("", "file", "mlflow-artifacts") or (scheme == "file" and _local(location).is_dir()):
            return location
        rest = location.removeprefix(_SERVED).rpartition(f"/{_ARTIFACTS}/")[2]
        file = database(self.uri)  # the folder moved, or a server stored what is now read without it, or the reverse
        return f"{_SERVED}{rest}" if file is None else (file.parent / _ARTIFACTS / rest).as_uri()

    def _add(self, model: ModelFolder, sha256: str, run_id: str | None) -> int:
        model_id = self._upload(model, run_id)
        tags = model.tags | {
            "sha256": sha256,
            "model_id": model_id,
            "folder": f"artifacts/{model.path.name}",
            "kind": model.kind,
            "stage": model.stage,
            "life": model.life,
            "method": model.method,
            "task": model.task,
        }
        if not self.client.search_registered_models(f"name={_quoted(model.name)}"):
            self.client.create_registered_model(model.name, tags={"kind": model.kind, "task": model.task})
        source = f"models:/{model_id}"
        with global_uri(self.uri):  # MLflow looks a models:/ source up there
            added = self.client.create_model_version(model.name, source, run_id, tags, model_id=model_id)
        return int(added.version)

    def _upload(self, model: ModelFolder, run_id: str | None) -> str:
        tags = {"life": model.life, "kind": model.kind}
        logged = self.client.create_logged_model(self.experiment_id, model.name, run_id, tags)
        with tempfile.TemporaryDirectory() as temporary:
            written = Path(temporary) / "model"
            _write_pyfunc(model, written)
            self.client.log_model_artifacts(logged.model_id, str(written))
        self.client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def log_results(self, name: str, version: int, run_id: str, numbers: dict[str, float]) -> None:
        """Put ``numbers`` on the version: as metrics of its model, and as tags for lists and champions."""
        tags = self.version(name, version).tags
        for stale in (tags.keys() & _RESULTS) - numbers.keys():
            self.client.delete_model_version_tag(name, str(version), stale)
        for key, value in numbers.items():
            self.client.log_metric(run_id, key, value, model_id=tags["model_id"])
            self.client.set_model_version_tag(name, str(version), key, f"{value:.6g}")

    def version(self, name: str, alias_or_version: str | int) -> Any:
        """MLflow's record of a version, by number or alias.

        Raises RegistryError when there is none.
        """
        self._require_database()
        wanted = str(alias_or_version)
        with in_our_words(self.uri, f"Looking for {name}@{wanted}"):
            if wanted.isdigit():
                return self.client.get_model_version(name, wanted)
            found = self.client.get_model_version_by_alias(name, wanted)
            return self.client.get_model_version(name, found.version)

    def set_alias(self, name: str, version: int, alias: str) -> None:
        """Point ``alias`` at ``version``."""
        with in_our_words(self.uri, f"Setting {name}@{alias}"):
            self.client.set_registered_model_alias(name, alias, str(version))

    def aliases(self, name: str) -> dict[str, int]:
        """Alias → version of the model ``name``."""
        return {alias: int(v) for alias, v in self.client.get_registered_model(name).aliases.items()}

    def promote(self, name: str, version: str | int, alias: str = "champion") -> int:
        """Make an existing version (number or alias) the ``alias``; returns its number.

        Raises RegistryError when there is no such version.
        """
        number = int(self.version(name, version).version)
        self.set_alias(name, number, alias)
        return number

    def versions(self, name: str | None = None) -> list[Any]:
        """MLflow's records of every version that this package registered, by name and number."""
        query = f"name={_quoted(name)}" if name else None
        with in_our_words(self.uri, "Listing models"):
            found = list(self.client.search_model_versions(query, max_results=10_000))
        return sorted((v for v in found if "sha256" in v.tags), key=lambda v: (v.name, int(v.version)))

    def list_models(self) -> list[dict[str, Any]]:
        """Every version as a JSON-able row, by name and number."""
        self._require_database()
        found = self.versions()
        aliases = {name: self.aliases(name) for name in {v.name for v in found}}
        return [_row(v, aliases[v.name]) for v in found]

    def pull(self, name: str, alias_or_version: str | int, target: Path) -> dict[str, Any]:
        """Copy a model's folder to ``target``, whole or not at all; returns its row.

        The bytes are compared with the manifest and with the sha256 that was recorded at registration.
        Raises RegistryError for an unknown version or a ``target`` that holds something, IntegrityError for
        altered bytes.
        """
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RegistryError(f"{target} is there already: name a new or empty folder, or delete it first.")
        version = self.version(name, alias_or_version)
        if "sha256" not in version.tags:
            raise RegistryError(f"{name}/{version.version} has no sha256 tag: postbc did not register it.")
        with atomic_folder(target.absolute()) as building:
            self._download(version, building)
            found = difference(building)
            if found is None and (holds := fingerprint(building)) != version.tags["sha256"]:
                found = f"it holds {holds}, registered was {version.tags['sha256']}."
            if found is not None:
                raise IntegrityError(
                    f"{name}/{version.version}: the artifact store was changed; register the model again. {found}"
                )
        return _row(version, self.aliases(name))

    def _download(self, version: Any, target: Path) -> None:
        artifacts = quiet_mlflow().artifacts
        inside = target / ".download"
        inside.mkdir()
        with in_our_words(self.uri, f"Downloading {version.name}/{version.version}"):
            location = self._location(version)
            try:
                got = artifacts.download_artifacts(location, dst_path=str(inside), tracking_uri=self.uri)
            except OSError as error:
                advice = "run `dvc repro -f -s register` to store it again."
                raise RegistryError(shown(f"{location} cannot be read ({error}); {advice}")) from error
        for path in Path(got).iterdir():
            path.rename(target / path.name)
        shutil.rmtree(inside)

    def _require_database(self) -> None:
        file = database(self.uri)
        if file is not None and not file.is_file():
            raise RegistryError(
                f"There is no registry at {shown(self.uri)}: run `dvc repro` to register models, or say where it is "
                "with --tracking-uri or MLFLOW_TRACKING_URI."
            )


def _moved(location: str, own: Path) -> bool:
    """Whether ``location`` is what :class:`Registry` names ``own``, in another place."""
    there = _local(location)
    return location.startswith("file:") and there.parts[-2:] == own.parts[-2:] and there.resolve() != own.resolve()


def _local(location: str) -> Path:
    return Path(unquote(urlparse(location).path))


def _write_pyfunc(model: ModelFolder, target: Path) -> None:
    """Write MLflow's wrapper of ``model``: pyfunc.py, the folder, the signature."""
    with warnings.catch_warnings():
        for advice in ("Any type hint is inferred", "input example was not provided"):
            warnings.filterwarnings("ignore", message=f".*{advice}")  # the signature says it all
        quiet_mlflow().pyfunc.save_model(
            str(target),
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"folder": str(model.path)},
            model_config={"kind": model.kind},
            signature=signature(model.kind, model.path),
            pip_requirements=[f"postbc=={installed('postbc')}"],
        )


def _row(version: Any, aliases: dict[str, int]) -> dict[str, Any]:
    """What `postbc models list` shows of a version."""
    tags = version.tags
    success = tags.get("robot.success", tags.get("simulator.success"))
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return {
        "name": version.name,
        "version": int(version.version),
        "aliases": sorted(alias for alias, number in aliases.items() if number == int(version.version)),
        "kind": tags["kind"],
        "life": tags["life"],
        "success": None if success is None else float(success),
        "evaluated": "robot" if "robot.success" in tags else "simulator" if success else None,
        "sha256": tags["sha256"],
        "git_commit": tags.get("git_commit"),
        "created": created.isoformat(timespec="seconds"),
    }
