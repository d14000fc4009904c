"""What was found, in a paragraph of plain words."""

from collections.abc import Iterator, Mapping
from typing import Any

from assay.noise.describe import alike
from assay.pipeline.result import why_not_measured
from assay.text import counted, interval, percent

Facts = Mapping[str, Any]
"""report.json, but for its summary."""


def summarise(facts: Facts) -> str:
    """A handful of sentences for who reads nothing else."""
    return " ".join(
        [*_labels(facts), *_corrected(facts), *_model(facts), *_rivals(facts), *_image_warnings(facts)]
    )


def _labels(facts: Facts) -> Iterator[str]:
    data, noise = facts["data"], facts["noise"]
    spread = alike(noise["form"], data["classes"]) if noise["rate"]["estimate"] > 0 else ""
    yield (
        f"{interval(noise['rate'])} of the labels of {counted(data['images'], 'image')} in "
        f"{counted(data['classes'], 'class', 'classes')} are wrong"
        f"{spread}; "
        f"this was counted on {counted(noise['pairs'], 'image')} with a trusted label."
    )


def _corrected(facts: Facts) -> Iterator[str]:
    changes = facts["changes"]
    counts, right, sure = changes["counts"], changes["accuracy"], changes["accuracy_where_sure"]
    yield (
        f"{counted(counts['changed'], 'label')} were changed with confidence, {counts['kept']:,} confirmed, "
        f"{counts['unsure']:,} left open because nothing is sure enough."
    )
    if not right:
        return
    where = (
        f", and {interval(sure)} of the {percent(changes['share_sure'])} where the run is sure"
        if sure
        else ""
    )
    apart = any(row["system"] == "labels_validated" for row in facts["figures"])
    how = "Of images kept aside" if apart else "Cross-validated"
    yield f"{how}, {interval(right)} of the fixed labels are right{where}."


def _model(facts: Facts) -> Iterator[str]:
    figures = {row["system"]: row for row in facts["figures"]}
    if "assay" not in figures:
        why = why_not_measured(figures, facts["data"]["held_out"])
        yield f"{why}, so the accuracy of the model itself was not measured."
        return
    found = figures["assay"]
    words = f"The model is right on {interval(found['accuracy'])} of {found['n']:,} images it had never seen"
    if found["source"] != "holdout":
        words = (
            f"The same model without them is right on {interval(found['accuracy'])} of {found['n']:,} images"
        )
    if found["paired"]:
        points = 100 * found["paired"]["difference"]["estimate"]
        word = "more" if points >= 0 else "less"
        words += f", {abs(points):.1f} points {word} than colour histograms"
    yield f"{words}."


def _rivals(facts: Facts) -> Iterator[str]:
    rows = facts["comparison"]["rows"] if facts["comparison"] else ()
    measured = [row for row in rows if row["accuracy"] is not None]
    if len(measured) > 1:
        best = max(measured, key=lambda row: row["accuracy"])
        yield (
            f"Of {len(measured)} recipes on the same images {best['title']} has the highest accuracy, "
            f"{percent(best['accuracy'])}."
        )


def _image_warnings(facts: Facts) -> Iterator[str]:
    if facts["skipped"]["count"]:
        yield f"{counted(facts['skipped']['count'], 'image')} could not be used."
    if facts["warnings"]:
        yield f"{counted(len(facts['warnings']), 'warning')} below should be read before relying on it."
