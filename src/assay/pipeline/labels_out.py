"""The labels of a finished run for whatever comes next: a label file, class folders, another tool.

Each image gets the first of these that exists: its trusted label, what a person decided in a review, the
run's own label. A policy says which of them are written.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.dataset import ImageSource
from assay.data.decisions import FILE, NO_CLASS, read_decisions
from assay.data.place import Place
from assay.data.relabel import relabel
from assay.data.tables import read_csv, shown
from assay.data.write import FORMATS, ResumableWriter
from assay.errors import DataError, UsageError
from assay.pipeline.finished import FinishedRun, OpenedRun, open_images, open_run, read_finished_run
from assay.pipeline.label_files import WRITERS, FinalLabel, Images
from assay.pipeline.run_files import DECIDED, HOLDOUT_COLUMNS, LABEL_COLUMNS, read_facts
from assay.text import interval, percent
from assay.types import Progress, silent

CHECKED = ("trusted", "holdout", "decided")
"""Sources of labels that a person gave: the trusted file, that of held-out images, a review."""

SOURCES = (*CHECKED, "kept", "changed", "unsure", "outlier", "no_class", "skipped")
"""Of labels, as they are counted: by people, by the run, and images without a label."""

POLICIES: dict[str, tuple[str, ...]] = {
    "sure": SOURCES[:5],
    "all": SOURCES[:7],
    "checked": CHECKED,
}
"""Policy -> the sources whose labels it writes."""

ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
"""Endings of a file that say its format."""

ALL_FORMATS = (*FORMATS, *WRITERS)

REVIEW_FORMATS = ("fiftyone", "label-studio")
"""Have every image that can be used, with the run's label and its confidence, for a person to look at."""

TREES = ("folders", "huggingface")
"""Are folders of images."""

COLUMNS = ("file", "label", "noisy_label", "confidence", "source")
"""Of a label file."""

_ROWS = 10_240  # are written at once


@dataclass(frozen=True)
class ExportedLabels:
    """What was written, and how good it is."""

    path: Path
    policy: str
    """Empty where all images were written."""
    written: Mapping[str, int]
    """Source -> labels."""
    left_out: Mapping[str, int]
    """Source -> images that the policy leaves out."""
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Reason -> images that could not be read now."""
    changed: int | None = None
    """Rows that differ from the label file that was copied; None without one."""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """noise.json and evaluation.json of the run; empty where they are missing."""

    @property
    def accuracy(self) -> dict[str, dict[str, Any] | None]:
        """Policy -> share of the run's labels that are right, with its interval and ``n``.

        Counted on trusted images whose own label corrected nothing; None where that was not measured.
        """
        figures, systems = self.facts.get("labels", {}), self.facts.get("systems", {})
        n = next((found["n"] for name, found in systems.items() if name.startswith("labels_")), 0)
        sizes = {"sure": round(n * figures.get("share_sure", 0)), "all": n}
        shares = {"sure": figures.get("accuracy_where_sure"), "all": figures.get("accuracy")}
        return {name: share and {**share, "n": sizes[name]} for name, share in shares.items()}

    def __str__(self) -> str:
        lines = [f"{sum(self.written.values()):,} labels in {self.path}: {_counts(self.written) or 'none'}."]
        if self.changed is not None:
            lines = [f"{self.changed:,} labels changed in {self.path}."]
        if self.left_out:
            what = "Left as they were" if self.changed is not None else "Left out"
            lines.append(f"{what}: {_counts(self.left_out)}.")
        if self.unreadable:
            lines.append(f"Images that cannot be read now: {_counts(self.unreadable)}.")
        found = self.accuracy
        if found["all"] is None:
            why = "the run has no trusted labels" if self.facts else "evaluation.json is not in its folder"
            return "\n".join([*lines, f"How many labels of the run are right was not measured: {why}."])
        lines.append("Right labels, measured on trusted images out of fold:")
        for policy, words in (("sure", "where the run is sure"), ("all", "everywhere")):
            if (share := found[policy]) is not None:
                name = f"{words} (--policy {policy})"
                lines.append(f"  {name:38} {interval(share)}, n = {share['n']:,}")
        if (pairs := self.facts["labels"]["against_noisy"]) is not None:
            n = sum(pairs[name] for name in ("both_right", "only_first", "only_second", "neither"))
            right = (pairs["both_right"] + pairs["only_first"]) / n
            lines.append(f"  {'noisy labels':38} {percent(right)}, n = {n:,}")
        return "\n".join(lines)


def _counts(found: Mapping[str, int]) -> str:
    return " · ".join(f"{name} {n:,}" for name, n in found.items())


def export_labels(
    folder: Path,
    target: Path,
    *,
    format: str | None = None,  # noqa: A002  # the word of the flag
    policy: str | None = None,
    like: Path | None = None,
    link: bool = False,
    decisions: Path | None = None,
    images: Place | None = None,
    source: ImageSource | None = None,
    excel_safe: bool = False,
    path_column: str | None = None,
    label_column: str | None = None,
    follow_symlinks: bool = False,
    progress: Progress = silent,
) -> ExportedLabels:
    """Write the corrected labels of the finished run in ``folder``.

    Parameters
    ----------
    target : a file; of ``TREES`` a folder, new or empty
    format : one of ``ALL_FORMATS``; by default that of the ending of ``target``
    policy : one of ``POLICIES``, ``sure`` by default; none for ``REVIEW_FORMATS``
    like : write a copy of this label file, in which only labels differ
    link : in a folder, put links to the images in place of copies
    decisions : those to use in place of the run's decisions.sqlite, see ``read_decisions``
    images : where the images are now; by default where they were when the run was made
    source : reads the images of a run whose images were in memory
    path_column, label_column : of ``like``, if they are not those of the run

    Raises
    ------
    UsageError : options that do not go together, a target in use, images that are no files but must be
    DataError : no finished run, or decisions that are not of it
    """
    run = read_finished_run(folder)
    kind = "" if like is not None else format or ENDINGS.get(target.suffix.lower(), target.name)
    _check(kind, policy, link=link)
    rows = Picked(
        final_labels(run, decisions), None if kind in REVIEW_FORMATS else POLICIES[policy or "sure"]
    )
    changed = None
    if kind in FORMATS:
        write_table(target, rows, kind, excel_safe=excel_safe)
    else:
        if source is not None and images is None:
            # A place that is not there.
            opened = OpenedRun(**vars(run), images=source, root=folder / "images")
        else:
            opened = open_run(folder, images, follow_symlinks=follow_symlinks, command="labels")
        if like is not None:
            changed = relabel(
                like,
                target,
                {row.file: row.label for _, row in rows},
                opened.names_in_order,
                images=opened.root,
                options=replace(
                    opened.reading,
                    path_column=path_column or opened.reading.path_column,
                    label_column=label_column or opened.reading.label_column,
                ),
            )
        else:
            if (folder / "labels").is_dir():  # of a run in shards, whose labels.csv has some images only
                named = replace(run, names=tuple(name for name, *_ in _stored(run)))
                source = open_images(named, opened.root, follow_symlinks=follow_symlinks)
                opened = replace(opened, images=source)
            given = Images(opened, list(rows), rows.drop, link, excel_safe, progress)
            WRITERS[kind](target, given)
    facts: Mapping[str, Any] = {}
    with contextlib.suppress(DataError):  # the run may have been copied without its figures
        facts = read_facts(folder)
    return ExportedLabels(
        target,
        policy or "sure",
        _in_order(+rows.written),
        _in_order(rows.left_out),
        dict(rows.unreadable),
        changed,
        facts,
    )


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    return {source: counts[source] for source in SOURCES if counts.get(source)}


def _check(kind: str, policy: str | None, *, link: bool) -> None:
    if kind and kind not in ALL_FORMATS:
        raise UsageError(
            f"--format: expected {', '.join(ALL_FORMATS)}, or a file ending in {', '.join(ENDINGS)}, "
            f"got {kind!r}"
        )
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"--policy: expected {', '.join(POLICIES)}, got {policy!r}")
    if policy is not None and kind in REVIEW_FORMATS:
        raise UsageError(f"--policy: expected none with {kind}, which gets every image with its confidence")
    if link and kind not in TREES:
        raise UsageError(f"--link: expected --format {' or '.join(TREES)}, got another format")


class Picked:
    """The images of some sources with their places in the run; counts them and the others as they come."""

    def __init__(self, rows: Iterable[FinalLabel], sources: tuple[str, ...] | None) -> None:
        self.rows, self.sources = rows, sources
        self.written, self.left_out, self.unreadable = Counter[str](), Counter[str](), Counter[str]()

    def __iter__(self) -> Iterator[tuple[int, FinalLabel]]:
        for index, row in enumerate(self.rows):
            if row.source != "skipped" if self.sources is None else row.label and row.source in self.sources:
                self.written[row.source] += 1
                yield index, row
            else:
                self.left_out[row.source] += 1

    def drop(self, row: FinalLabel, why: str) -> None:
        """Do not count an image that cannot be read now."""
        self.written[row.source] -= 1
        self.unreadable[why] += 1


def write_table(
    target: Path,
    rows: Iterable[tuple[int, FinalLabel]],
    format: str = "csv",  # noqa: A002  # the word of the flag
    *,
    excel_safe: bool = False,
) -> None:
    """A label file with the columns ``COLUMNS``; takes the memory of ten thousand rows (Parquet: of all)."""
    left = iter(rows)
    with ResumableWriter(target, COLUMNS, format, excel_safe) as table:
        while some := [(r.file, r.label, r.noisy, r.confidence, r.source) for _, r in islice(left, _ROWS)]:
            table.add(list(zip(*some, strict=True)), lasting=False)


def final_labels(run: FinishedRun, decisions: Path | None = None) -> Iterator[FinalLabel]:
    """The label of each image in the order of labels.csv, of a run in shards in that of its parts.

    Parameters
    ----------
    decisions : in place of those in the run folder

    Raises
    ------
    DataError : decisions of other images, or of classes that the run does not have
    """
    table = read_csv(run.folder / "holdout.csv", HOLDOUT_COLUMNS)
    held_out = {name: label for name, label, *_ in table.rows}
    if other := {*held_out.values()} - {*run.labels}:
        raise DataError(f"{table.path}: {shown(other.pop())} is not a class of this run; run it again")
    place, used = decisions or run.folder / FILE, 0
    decided = {one.name: one for one in read_decisions(place)} if decisions or place.is_file() else {}
    for file, noisy, trusted, corrected, sure, quality, action, reason in _stored(run):
        decision = decided.get(file)
        if decision is not None:
            used += 1
            if decision.after not in {None, NO_CLASS, *run.labels}:
                raise DataError(
                    f"{place.name}: {shown(file)} was decided to be {shown(decision.after or '')}, which is "
                    f"no class of the run ({', '.join(map(shown, run.labels[:10]))}); correct the row"
                )
        label, source, held = corrected, action, held_out.pop(file, "")
        if action == "skipped":
            label = ""
        elif trusted and reason != DECIDED:
            label, source = trusted, "trusted"
        elif held:  # labels.csv does not have it
            label, source = held, "holdout"
        elif decision is not None and decision.after is not None:
            label, source = decision.after, "decided" if decision.after else "no_class"
        elif reason == DECIDED:  # in a review of an earlier run
            label, source = trusted, "decided" if trusted else "no_class"
        confidence = 1.0 if source in CHECKED else 0.0 if source == "no_class" else sure
        yield FinalLabel(file, label, noisy, confidence, quality, source, decision)
    if held_out:
        raise DataError(f"{table.path}: {shown(next(iter(held_out)))} is not of this run; run it again")
    # In the run folder there may be those of an earlier run of other images.
    if decisions and decided and not used:
        raise DataError(
            f"{place.name}: none of its {len(decided):,} decisions is of an image of the run, the first is "
            f"of {shown(next(iter(decided)))}; give those of a review of these images"
        )


def _stored(run: FinishedRun) -> Iterator[tuple[str, str, str, str, float, float, str, str]]:
    """``LABEL_COLUMNS`` of every image."""
    parts = run.folder / "labels"
    if parts.is_dir():
        import polars as pl  # takes a third of a second

        for part in sorted(parts.glob("*.parquet")):
            yield from pl.read_parquet(part, columns=list(LABEL_COLUMNS)).iter_rows()
        return
    words = np.array([*run.labels, ""], dtype=object)  # UNKNOWN, -1, is the empty label
    yield from zip(
        run.names,
        words[run.noisy].tolist(),
        words[run.trusted].tolist(),
        words[run.proposed].tolist(),
        run.confidence.tolist(),
        run.label_quality.tolist(),
        run.actions,
        run.reasons,
        strict=True,
    )
