"""run.json: what was asked for, on what data, with what, and how far it went."""

import hashlib
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from assay.data.dataset import Dataset, ReadOptions, Skipped
from assay.data.limits import USUAL
from assay.data.split import Split
from assay.embed.backbone import TimmBackbone
from assay.embed.device import cores
from assay.types import UNKNOWN, Backbone

SCHEMA = 1
"""Raised when runs of the old form can no longer be resumed."""


def new_record(settings: Mapping[str, Any], data: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """A run that has just begun."""
    return {
        "schema": SCHEMA,
        "status": "running",
        "settings": dict(settings),
        "data": dict(data),
        "split": {"digest": split.digest, "fit": len(split.fit), "holdout": len(split.holdout)},
        "processes": 0,
        "holdout_evaluations": 0,
    }


CHANGED_FILES = "images whose files were changed since"


def differences(record: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """What was asked for otherwise when ``record`` was begun, in words; empty if nothing was."""
    there = record["settings"]
    found = [
        f"{name} {there.get(name)!r} there, {settings.get(name)!r} now"
        for name in sorted({*there, *settings})
        if there.get(name) != settings.get(name)
    ]
    words = {
        "labels": "other images or labels",
        "titles": "other class names",
        "decisions": "other decisions",
        "accept_truncated": "another --truncated",
        "max_pixels": "another --max-pixels",
    }
    found += [words[name] for name in words if record["data"].get(name) != data.get(name)]
    # Known of both only once the images were read.
    before, now = (facts.get("contents") for facts in (record["data"], data))
    if not found and None not in (before, now) and before != now:
        return [CHANGED_FILES]
    return found


def is_interrupted(record: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether ``record`` was begun with these settings, data and versions, and never ended."""
    return (
        record.get("status") == "running"
        and not differences(record, settings, data)
        and not changed_versions(record)
    )


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What a run on other data would differ in; the images' bytes follow once they are read."""
    return {
        "images": len(dataset),
        "classes": len(dataset.classes),
        "trusted": int(np.sum(dataset.trusted != UNKNOWN)),
        "labels": dataset.fingerprint(),
        "titles": list(dataset.titles),
        "decided": len(dataset.decided),
        "decisions": dataset.decisions_digest(),
        **({"accept_truncated": True} if dataset.accept_truncated else {}),
        **({"max_pixels": dataset.limits.max_pixels} if dataset.limits != USUAL else {}),
    }


def reading_facts(read: ReadOptions) -> dict[str, Any]:
    """How to find the same images and labels at their place once more."""
    return {
        "path_column": read.path_column,
        "label_column": read.label_column,
        "follow_symlinks": read.follow_symlinks,
        "truncated": read.truncated,
        "max_pixels": read.max_pixels,
    }


def contents_digest(contents: Iterable[bytes | None]) -> str:
    """sha256 over the sha256 of each image, in order; None where an image could not be read."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(b"-" if content is None else b"+" + content)
    return digest.hexdigest()


def read_contents(dataset: Dataset, workers: int) -> Iterator[bytes | None]:
    """sha256 of each image's bytes, as ``embed`` finds it, without decoding any."""

    def content(row: int) -> bytes | None:
        data = dataset.read(row)
        return None if isinstance(data, Skipped) else hashlib.sha256(data).digest()

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        yield from pool.map(content, range(len(dataset)))


def backbone_facts(backbone: Backbone) -> dict[str, Any]:
    """Which network computed the features, and how it ran on this machine."""
    found = {"name": backbone.name, "size": backbone.size, "digest": backbone.digest}
    if isinstance(backbone, TimmBackbone):
        return found | {"weights_from": backbone.origin, "plan": vars(backbone.plan)}
    return found


def versions() -> dict[str, str]:
    """What the same bytes depend on, besides seed and machine."""
    found = {"python": platform.python_version()}
    for package in ("assay", "numpy", "pillow", "scikit-learn", "scipy", "timm", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Where it ran; ``threads`` are torch's once torch is loaded."""
    torch = sys.modules.get("torch")
    cpus = cores()
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": cpus,
        "threads": torch.get_num_threads() if torch else cpus,
    }


def changed_versions(record: Mapping[str, Any]) -> list[str]:
    """Packages that are not as they were when the run was begun, in words."""
    before = record.get("versions", {})
    return [
        f"{name} {before[name]} then, {now} now"
        for name, now in versions().items()
        if before.get(name, now) != now
    ]
