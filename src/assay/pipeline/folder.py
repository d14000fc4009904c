"""RunFolder: where a run lives, who may write there, and run.json, from which a killed run resumes."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from assay.data.dataset import Dataset, ReadOptions, Skipped
from assay.data.files import USUAL, file_digest
from assay.data.place import Place, whole_name, without_secrets
from assay.data.split import Split
from assay.data.vectors import Vectors
from assay.data.write import UNFINISHED_NAME, write_json, write_text_atomic
from assay.embed.backbone import TimmBackbone
from assay.embed.device import cores
from assay.errors import BusyError, DataError, OtherRunError, UsageError, explain_write_errors
from assay.evaluate import Cost, Stopwatch
from assay.predict.model import PACKAGE
from assay.types import UNKNOWN, Backbone, Notify

SCHEMA = 2
"""Of run.json and compare.json; raised when older ones can no longer be read."""

RESULTS = (
    "noise.json",
    "labels.csv",
    "pred_probs.npy",
    "annotators.csv",
    "holdout.csv",
    "evaluation.json",
    "image_issues.csv",
    *(f"model/{name}" for name in PACKAGE),
)
"""The files of a run besides run.json."""

SHARDS = "shards.json"
"""The record of a run that works in shards, beside run.json."""

LOCKS = {
    "run": (".lock", ".pid"),
    "comparison": (".compare.lock", ".compare.pid"),
    "sharded run": (".shards.lock", ".shards.pid"),
}
"""Kind -> its lock file and the file with the id of the process that holds it. A comparison or a sharded run
starts a run in its own folder, so the two must not exclude each other."""

READING = (
    *("path_column", "label_column", "match", "strip_prefix"),
    *("follow_symlinks", "truncated", "max_pixels"),
)
"""The options of reading with which later commands find the same images and labels again."""

CHANGED_FILES = "images whose files were changed since"

CHANGED_DATA = {
    "labels": "other images or labels",
    "titles": "other class names",
    "decisions": "other decisions",
    "groups": "other groups",
    "accept_truncated": "another --truncated",
    "max_pixels": "another --max-pixels",
}


@dataclass(frozen=True)
class RunFolder:
    """The files of a run. Nothing is deleted that no run wrote."""

    path: Path

    def check(self) -> None:
        """Refuse a place that is neither free nor a run's, before anything is written to it."""
        if (self.path / SHARDS).is_file():
            return  # of a run that works in shards, and has not come to its run.json yet
        expected = "an empty folder or one that holds a run"
        check_place(self.path, "run.json", "compare.json", RESULTS, expected)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and keep other runs out; see ``lock``."""
        with lock(self.path, "run"):
            # Only the holder of the lock writes here, so every half-written file is of a killed run.
            for folder in (self.path, self.path / "model", *self.checkpoints):
                sweep(folder)
            yield

    def record(self) -> dict[str, Any]:
        """run.json, see ``read_record``."""
        return read_record(self.path / "run.json")

    def outputs(self) -> dict[str, str]:
        """sha256 of each result file that exists."""
        return {name: file_digest(self.path / name) for name in RESULTS if (self.path / name).is_file()}

    def is_complete(self, record: Mapping[str, Any]) -> bool:
        """Whether ``record`` is of a finished run whose files are as it wrote them."""
        return record.get("status") == "done" and record["outputs"] == self.outputs()

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """Folders of the checkpoints of fine-tuning, and of fine-tuning again (``--refit``)."""
        return self.path / "checkpoints", self.path / "checkpoints-refit"

    def drop_checkpoints(self) -> None:
        """Delete those of a run that is over, and their folders if nothing else is in them."""
        for folder in self.checkpoints:
            (folder / "student.safetensors").unlink(missing_ok=True)
            _remove_if_empty(folder)

    def clear(self) -> None:
        """Delete what a run wrote."""
        self.drop_checkpoints()
        # run.json last: a kill in between leaves the folder of a run, which is not refused as foreign.
        for name in (*RESULTS, "run.json"):
            (self.path / name).unlink(missing_ok=True)
        _remove_if_empty(self.path / "model")


@dataclass
class RunRecord:
    """run.json while a run is being done."""

    folder: RunFolder
    settings: Mapping[str, Any]
    """``RunOptions.settings()``."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """``data_facts``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What run.json holds, or will hold; empty until a new run starts."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    is_new: bool = True
    replaces: bool = False
    """Another run's files are in the folder; they stay until nothing can refuse this run any more."""

    def load(self, contents: Callable[[], str], *, overwrite: bool) -> None:
        """Take over the run in the folder if it is this one; with ``overwrite`` any other run is replaced.

        Parameters
        ----------
        contents : computes ``contents_digest`` of the images, which reads all of them

        Raises
        ------
        OtherRunError : the folder holds a run with other settings or data
        """
        found = self.folder.record()
        if overwrite:
            # The same command that was interrupted resumes: hours of work may be there.
            known = found.get("data", {}).get("contents")
            resumes = is_interrupted(found, self.settings, self.data)
            if not resumes or (known is not None and known != contents()):
                self.replaces = bool(found)
                return
        elif found:
            self._refuse(differences(found, self.settings, self.data))
        self.facts, self.is_new = found, not found

    def start(
        self,
        images: Place | None,
        read: ReadOptions,
        split: Split,
        backbone: Backbone,
        command: Sequence[str],
        notify: Notify,
    ) -> None:
        """Begin run.json, or add a process to it; OtherRunError if its backbone computes otherwise.

        Parameters
        ----------
        images : their place; None for images in memory, and where features came without images
        """
        network: dict[str, Any] = {"name": backbone.name, "size": backbone.size, "digest": backbone.digest}
        if isinstance(backbone, TimmBackbone):
            network |= {"weights_from": backbone.origin, "plan": vars(backbone.plan)}
        if self.is_new:
            self.facts |= {
                "schema": SCHEMA,
                "settings": dict(self.settings),
                "data": dict(self.data),
                "split": split_facts(split),
                "processes": 0,
                "holdout_evaluations": 0,
            }
        elif self.facts["backbone"] != network:
            self._refuse([f"backbone {self.facts['backbone']} there, {network} now"])
        else:
            notify(f"{self.folder.path}: resuming run")
            for change in changed_versions(self.facts):
                notify(f"warning: {change}: the bytes may differ from those of an uninterrupted run")
            if self.facts["status"] == "running":
                self.watch.earlier = self.facts.get("seconds", {})
        self.facts |= {
            "status": "running",
            "command": list(map(without_secrets, command)),
            "images": None if images is None else whole_name(images),
            **({} if read.features is None else {"features": _features_file(read.features)}),
            "reading": {name: getattr(read, name) for name in READING},
            "backbone": network,
            "versions": versions(),
            "machine": machine(),
            "processes": self.facts["processes"] + 1,
        }
        # Where the images must first be compared with those of before, the old record stays.
        if "contents" not in self.facts["data"] and not self.replaces:
            self._write()

    def check_contents(self, digest: str) -> None:
        """OtherRunError if the images have other bytes than those that the run began with."""
        if self.facts["data"].setdefault("contents", digest) != digest:
            self._refuse([CHANGED_FILES])

    def keep(self) -> None:
        """Write run.json with the seconds so far, from which a killed run resumes; not while it replaces."""
        self.facts["seconds"] = self.watch.so_far()
        if not self.replaces:
            self._write()

    def replace(self) -> None:
        """Delete the run that this one replaces: nothing can refuse it any more."""
        if self.replaces:
            self.folder.clear()
            self.replaces = False
            self.keep()

    def finish(self, cost: Cost) -> None:
        """Mark the run as complete, with the digest of each of its files."""
        outputs = self.folder.outputs()
        self.facts |= {"status": "done", "machine": machine(), "cost": cost.to_json(), "outputs": outputs}
        self.keep()
        self.folder.drop_checkpoints()

    @contextmanager
    def cleared_if_refused(self) -> Iterator[None]:
        """A new run that is refused leaves no run behind: the corrected command must not be another run."""
        try:
            yield
        except (DataError, UsageError):
            # An hour of fine-tuning stays, whatever was refused after it; so does the count of evaluations.
            expensive = "fine_tuning" in self.facts or self.facts.get("holdout_evaluations")
            if self.is_new and self.facts and not expensive and self.folder.record() == self.facts:
                self.folder.clear()
            raise

    def _refuse(self, differing: Sequence[str]) -> None:
        if differing:
            raise OtherRunError(
                f"{self.folder.path} holds a run with {'; '.join(differing)}; "
                "name another folder with --out, or replace it with --overwrite"
            )

    def _write(self) -> None:
        write_json(self.folder.path / "run.json", self.facts)


def _features_file(features: Path | Vectors) -> str | None:
    """None for an array in memory."""
    return str(features.resolve()) if isinstance(features, Path) else None


def differences(record: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """How the run of ``record`` differs from these settings and data, in words."""
    there = record["settings"]
    found = [
        f"{name} {there.get(name)!r} there, {settings.get(name)!r} now"
        for name in sorted({*there, *settings})
        if there.get(name) != settings.get(name)
    ]
    found += [words for name, words in CHANGED_DATA.items() if record["data"].get(name) != data.get(name)]
    # The bytes of the images are known only once they were read.
    before, now = (facts.get("contents") for facts in (record["data"], data))
    if not found and None not in (before, now) and before != now:
        return [CHANGED_FILES]
    return found


def is_interrupted(record: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether ``record`` was begun with these settings, data and versions, and never completed."""
    return (
        record.get("status") == "running"
        and not differences(record, settings, data)
        and not changed_versions(record)
    )


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What identifies the data of a run; the images' bytes follow once they are read."""
    return {
        "images": len(dataset),
        "classes": len(dataset.classes),
        "trusted": int(np.sum(dataset.trusted != UNKNOWN)),
        "labels": dataset.fingerprint(),
        "titles": list(dataset.titles),
        "decided": len(dataset.decided),
        "decisions": dataset.decisions_digest(),
        # Usual values are left out: records of earlier versions do not have the keys.
        **({"accept_truncated": True} if dataset.accept_truncated else {}),
        **({"groups": groups} if (groups := dataset.group_facts()) else {}),
        **({"max_pixels": dataset.limits.max_pixels} if dataset.limits != USUAL else {}),
    }


def split_facts(split: Split) -> dict[str, Any]:
    """Which rows were held out, as a digest, and how many."""
    return {"digest": split.digest, "fit": len(split.fit), "holdout": len(split.holdout)}


def contents_digest(contents: Iterable[bytes | None]) -> str:
    """sha256 over the sha256 of each image, in order; None where an image could not be read."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(b"-" if content is None else b"+" + content)
    return digest.hexdigest()


def read_contents(dataset: Dataset, workers: int) -> Iterator[bytes | None]:
    """sha256 of each image's bytes, as embedding finds it, without decoding any."""

    def content(row: int) -> bytes | None:
        data = dataset.read(row)
        return None if isinstance(data, Skipped) else hashlib.sha256(data).digest()

    dataset.expect(np.arange(len(dataset)))
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        yield from pool.map(content, range(len(dataset)))


def versions() -> dict[str, str]:
    """The packages on which the bytes of the results depend, besides seed and machine."""
    found = {"python": platform.python_version()}
    for package in ("assay", "numpy", "pillow", "scikit-learn", "scipy", "timm", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def changed_versions(record: Mapping[str, Any]) -> list[str]:
    """Packages whose version changed since the run was begun, in words."""
    before = record.get("versions", {})
    return [
        f"{name} {before[name]} then, {now} now"
        for name, now in versions().items()
        if before.get(name, now) != now
    ]


def machine() -> dict[str, Any]:
    """Where it ran; ``threads`` are torch's where torch is loaded."""
    torch = sys.modules.get("torch")  # not imported: preset fast may do without
    cpus = cores()
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": cpus,
        "threads": torch.get_num_threads() if torch else cpus,
    }


@contextmanager
def lock(path: Path, kind: str) -> Iterator[None]:
    """Make the folder ``path`` and keep others of the kind out while the block runs.

    The operating system frees the lock of a process that was killed.

    Parameters
    ----------
    kind : a key of ``LOCKS``

    Raises
    ------
    BusyError : another one holds the folder; the message names its process
    """
    lock_name, pid_name = LOCKS[kind]
    pid, held = path / pid_name, FileLock(path / lock_name)
    with explain_write_errors(path, advice="choose another folder with --out"):
        path.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(blocking=False)
        except Timeout:
            process = pid.read_text(encoding="utf-8") if pid.exists() else ""
            raise BusyError(
                f"{path}: another {kind} (process {process or 'unknown'}) holds this folder; "
                "wait for it, or name another folder with --out"
            ) from None
    # Apart from acquiring: an error of something inside is not about this place.
    try:
        write_text_atomic(pid, str(os.getpid()))
        yield
    finally:
        pid.unlink(missing_ok=True)
        held.release()


def check_place(path: Path, own: str, other: str, names: Iterable[str], expected: str) -> None:
    """Refuse a place that is neither free nor ours, before anything is written to it.

    Parameters
    ----------
    own, other : the record of what is to be written, and of the other kind that may lie in the same folder
    names : what is to be written beside its record; all that is foreign where the other kind is
    expected : names the places that are taken
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: expected a folder for the results, got a file; name a folder")
    if read_record(path / own):
        return
    if read_record(path / other):
        is_foreign = any((path / name).exists() for name in names)
    else:
        is_foreign = any(path.glob("[!.]*"))
    if is_foreign:
        raise OtherRunError(f"{path}: expected {expected}, found other files; name another with --out")


def check_outside(folder: Path, images: Path) -> None:
    """UsageError if the results would lie among the images, and be read as images the next time."""
    if images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
        raise UsageError(f"{folder}: expected a folder outside {images}, where results would count as images")


def read_record(file: Path) -> dict[str, Any]:
    """A JSON object of ours with its schema number; empty where there is no such file.

    Raises
    ------
    OtherRunError : something that this version of assay did not write
    """
    if not file.exists():
        return {}
    try:
        # Not msgspec: paths that are not UTF-8 are kept as lone surrogates, which it refuses.
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    written = found.get("schema") if isinstance(found, dict) else None
    if isinstance(found, dict) and written == SCHEMA:
        return found
    if written in range(1, SCHEMA):
        raise OtherRunError(
            f"{file} was written by an older version of assay and cannot be read by this one; "
            "run again with another --out"
        )
    raise OtherRunError(
        f"{file}: expected what this version of assay writes, got something else; "
        "name another folder with --out"
    )


def sweep(folder: Path) -> None:
    """Delete files that a killed process left half written; nobody may be writing there now."""
    for file in folder.glob(".*.tmp"):
        if UNFINISHED_NAME.fullmatch(file.name):
            file.unlink()


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
