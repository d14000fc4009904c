"""Everything that the report says, as report.json has it: read from the files of a finished run."""

from collections.abc import Mapping, Sequence

from assay import __version__
from assay.notebook.compare_folder import CompareFolder
from assay.pipeline.finished import FinishedRun
from assay.pipeline.outputs import read_facts
from assay.report.drawings import Drawing
from assay.report.galleries import Gallery, Picture
from assay.report.noise_facts import Facts, noise_facts
from assay.report.quality_facts import class_facts, comparison_facts, confusion_facts, curve_facts, figures
from assay.report.run_facts import (
    audit_facts,
    change_facts,
    cost_facts,
    data_facts,
    reproduce_facts,
    skipped_facts,
)
from assay.report.summary import summarise

KIND = "assay report"
"""Tells our report.json from any other file of the name."""

SCHEMA = 1

MOST_CLASSES = 50
"""Classes up to which report.json has whole matrices; those of a thousand classes are in the run's files."""


def gather(
    run: FinishedRun,
    galleries: Sequence[Gallery],
    pictures: Mapping[int, Picture | str],
    drawings: Sequence[Drawing],
    notes: Sequence[str],
) -> Facts:
    """All facts as plain dicts, lists, text and numbers.

    Parameters
    ----------
    galleries, pictures : the images to show; empty where there are none
    drawings : pictures that a comparison left in the folder; told of if the comparison is
    notes : what the report lacks, and why

    Raises
    ------
    DataError : files of the run that are not there, or not a run's
    """
    found = read_facts(run.folder)
    noise, titles = found["noise"], run.titles
    comparison, not_compared = comparison_facts(CompareFolder(run.folder).record(), run.record)
    audit, not_audited = audit_facts(run)
    drawings = drawings if comparison else ()  # their figures are its own
    facts: Facts = {
        "kind": KIND,
        "schema": SCHEMA,
        "version": __version__,
        "name": run.folder.resolve().name,
        "classes": list(titles),
        "data": data_facts(run, found),
        "noise": noise_facts(noise, titles),
        "figures": figures(noise, found),
        "better_than_baseline": found["better_than_baseline"],
        "left_out": len(found["left_out"]),
        "comparison": comparison,
        "by_class": class_facts(run, noise, found),
        "confusions": confusion_facts(noise, found, titles),
        "drawings": [{"title": one.title, "description": one.description} for one in drawings],
        "curves": curve_facts(found),
        "changes": change_facts(run, found, galleries, pictures),
        "audit": audit,
        "cost": cost_facts(run, found),
        "skipped": skipped_facts(run.folder),
        "warnings": found["warnings"],
        "reproduce": reproduce_facts(run),
        "notes": [*notes, *not_compared, *not_audited],
    }
    return facts | {"summary": summarise(facts)}


def to_json(facts: Facts) -> Facts:
    """report.json: the same, without matrices that would be larger than the run's own files."""
    if len(facts["classes"]) <= MOST_CLASSES:
        return facts
    noise = facts["noise"] | dict.fromkeys(("transition", "low", "high"))
    return facts | {"noise": noise, "confusions": [one | {"counts": None} for one in facts["confusions"]]}
