"""Labels with their images, as other tools read them: class folders, Hugging Face, COCO and so on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from assay.data import label_studio
from assay.data.dataset import ReadsAhead, Skipped
from assay.data.decisions import SKIP, Decision
from assay.data.decode import size_in_header
from assay.data.tree import ImageTree, file_of, new_folder
from assay.data.write import escape_surrogates, write_rows, write_text_atomic
from assay.pipeline.finished import OpenedRun
from assay.pipeline.folder import check_outside
from assay.types import Progress

VERSION = "assay"
"""The name of the model in predictions."""

TREE_COLUMNS = ("file", "label", "noisy_label", "confidence", "source", "original")
"""Of the table in a folder of images; ``original`` is the file in labels.csv."""


class FinalLabel(NamedTuple):
    """What is known of one image."""

    file: str
    label: str
    """Empty where no class is right, and where skipped."""
    noisy: str
    confidence: float
    """P(``label`` is right); 1 where a person gave it."""
    quality: float
    """P(``noisy`` is right)."""
    source: str
    """trusted, holdout or decided where a person gave the label, no_class where one says that none is right;
    else the run's action: kept, changed, unsure, outlier, skipped."""
    decision: Decision | None = None
    """Of a review, if one holds."""


@dataclass(frozen=True)
class Images:
    """The images to write, each with its place in the run."""

    run: OpenedRun
    rows: Sequence[tuple[int, FinalLabel]]
    drop: Callable[[FinalLabel, str], None]
    """Gets an image that cannot be read now, and the reason."""
    link: bool
    excel_safe: bool
    progress: Progress

    def each(self) -> Iterator[tuple[int, FinalLabel]]:
        """Them all, fetched ahead where they lie behind a network."""
        source = self.run.images
        if isinstance(source, ReadsAhead):
            source.expect(index for index, _ in self.rows)
        for done, (index, row) in enumerate(self.rows, start=1):
            yield index, row
            self.progress("images", done, len(self.rows))


def write_folders(target: Path, images: Images) -> None:
    """A folder for each class with its images, and files.csv, which says where each came from."""
    with new_folder(target) as folder:
        rows = _fill(folder, target, images, lambda row: row.label)
        write_rows(folder / "files.csv", TREE_COLUMNS, _columns(rows), excel_safe=images.excel_safe)


def write_huggingface(target: Path, images: Images) -> None:
    """The images in one folder, and metadata.jsonl as Hugging Face's ``imagefolder`` reads it."""
    with new_folder(target) as folder:
        rows = _fill(folder, target, images, lambda _: "images")
        # Not CSV: labels such as 007 and NA would be read as numbers and as missing.
        write_rows(
            folder / "metadata.jsonl", ("file_name", *TREE_COLUMNS[1:]), _columns(rows), format="jsonl"
        )


def _fill(
    folder: Path, target: Path, images: Images, label_of: Callable[[FinalLabel], str]
) -> list[tuple[Any, ...]]:
    if isinstance(images.run.root, Path) and images.run.stored_place is not None:
        check_outside(target, images.run.root)
    tree, rows = ImageTree(folder, images.run.images, images.link), []
    for index, row in images.each():
        file = tree.add(index, row.file, label_of(row))
        if isinstance(file, Skipped):
            images.drop(row, file.reason)
        else:
            rows.append((file, row.label, row.noisy, row.confidence, row.source, row.file))
    return rows


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * len(TREE_COLUMNS)


def write_coco(target: Path, images: Images) -> None:
    """COCO's images, categories and annotations: one an image, whose box is the whole image."""
    run = images.run
    found: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category = {label: number for number, label in enumerate(run.labels, start=1)}
    for index, row in images.each():
        data = run.images.read(index)
        size = None if isinstance(data, Skipped) else size_in_header(data, run.reading.limits)
        if size is None:
            images.drop(row, data.reason if isinstance(data, Skipped) else "not_an_image")
            continue
        number, (width, height) = len(found) + 1, size
        found.append({"id": number, "file_name": row.file, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": category[row.label],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "confidence": row.confidence,
                "source": row.source,
            }
        )
    categories = [
        {"id": category[label], "name": title} for label, title in zip(run.labels, run.titles, strict=True)
    ]
    info = {"description": f"labels of {run.folder.name}, corrected by assay"}
    facts = {"info": info, "images": found, "categories": categories, "annotations": annotations}
    _write_json(target, facts)


def write_fiftyone(target: Path, images: Images) -> None:
    """A data set as ``fiftyone.Dataset.from_json`` reads it: a sample an image, its labels as fields."""
    run, samples = images.run, []
    for index, row in images.each():
        sample: dict[str, Any] = {"filepath": str(file_of(run.images, index)), "tags": []}
        for name, label, sure in (
            ("noisy", row.noisy, None),
            ("corrected", row.label, row.confidence),
        ):
            if label:
                title = run.titles[run.labels.index(label)]
                sample[name] = {"_cls": "Classification", "label": title}
                sample[name] |= {} if sure is None else {"confidence": sure}
        sample |= {"action": row.source, "file": row.file}
        if row.noisy:
            sample |= {"label_quality": row.quality, "mistakenness": round(1 - row.quality, 4)}
        samples.append(sample)
    labels, text, number = (
        "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Classification)",
        "fiftyone.core.fields.StringField",
        "fiftyone.core.fields.FloatField",
    )
    fields = {"noisy": labels, "corrected": labels, "action": text, "file": text}
    fields |= {"label_quality": number, "mistakenness": number}
    facts = {"name": run.folder.resolve().name, "media_type": "image", "sample_fields": fields, "info": {}}
    _write_json(target, {**facts, "classes": {"corrected": list(run.titles)}, "samples": samples})


def write_label_studio(target: Path, images: Images) -> None:
    """Tasks with an annotation where a person gave a label, else the run's label as a prediction.

    Beside them, as .xml, lies the labelling interface of the project.
    """
    tasks = []
    for index, row in images.each():
        given, data = None, {"file": row.file, "noisy_label": row.noisy, "action": row.source}
        if row.decision is not None and row.source not in ("trusted", "holdout"):
            skipped = row.decision.kind == SKIP
            given = label_studio.annotation_of(None if skipped else row.decision.after, row.decision.at)
        elif row.source in ("trusted", "holdout", "decided", "no_class"):
            given = label_studio.annotation_of(row.label, is_truth=row.source in ("trusted", "holdout"))
        tasks.append(
            label_studio.task(
                label_studio.image_address(images.run.images, index),
                data | {"label_quality": row.quality},
                predicted="" if given else row.label,
                score=row.confidence,
                model=VERSION,
                annotation=given,
            )
        )
    _write_json(target, tasks)
    config = label_studio.labelling_config(images.run.labels, images.run.titles)
    write_text_atomic(target.with_suffix(".xml"), config)


def _write_json(target: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_text_atomic(target, escape_surrogates(text) + "\n")


WRITERS: Mapping[str, Callable[[Path, Images], None]] = {
    "folders": write_folders,
    "huggingface": write_huggingface,
    "coco": write_coco,
    "fiftyone": write_fiftyone,
    "label-studio": write_label_studio,
}
