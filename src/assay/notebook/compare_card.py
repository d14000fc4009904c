"""README.md of a recipe's model: what it is, what was measured, where it ends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.data.write import write_bytes_atomic, write_json
from assay.notebook.compare_twin import CARRIED
from assay.notebook.listing import TITLES
from assay.pipeline.card import limits
from assay.predict.model import Model, write_manifest

Row = Mapping[str, Any]
"""A row of compare.json."""


def comparison_card(model: Model, row: Row | None) -> str:
    """The card of a model; ``row`` is None as long as nothing was measured."""
    system = str(model.facts["system"])
    published = " as published, with the notebook's defects" if model.facts.get("published") else ""
    return "\n".join(
        [
            f"# {TITLES[system]}: image classifier, {len(model.labels)} classes",
            "",
            f"Recipe `{system}` of a comparison{published}. "
            f"Network `{model.architecture}` at {model.size} px.",
            "",
            "## Measured",
            "",
            _measured(row),
            limits(measured=False),
        ]
    )


def _measured(row: Row | None) -> str:
    if row is None:
        return "Not measured yet: the comparison that it is of was not finished."
    if row["accuracy"] is None:
        return "No held-out image could judge it: the accuracy of this very model is not measured."
    text = (
        f"Accuracy {row['accuracy']:.4f} ({row['accuracy_low']:.4f} to {row['accuracy_high']:.4f}, "
        f"95 % interval, n = {row['n']:,}), macro F1 {row['macro_f1']:.4f}; {row['source']}."
    )
    if row["source"] == CARRIED:
        text += " This very model learned from the held-out images too and was not measured itself."
    return text


def write_figures(folder: Path, model: Model, row: Row) -> None:
    """Put what was measured of a saved model into its config.json and its card; its weights stay."""
    figures = {
        "n": row["n"],
        "accuracy": row["accuracy"],
        "accuracy_low": row["accuracy_low"],
        "accuracy_high": row["accuracy_high"],
        "macro_f1": row["macro_f1"],
        "source": row["source"],
    }
    config = json.loads((folder / "config.json").read_bytes())
    said, place = {str(model.facts["system"]): figures}, folder / "README.md"
    card = comparison_card(model, row).encode("utf-8", "surrogateescape")
    if config["assay"].get("figures") == said and place.read_bytes() == card:
        return  # a folder that is not touched cannot be left half written
    config["assay"]["figures"] = said
    write_json(folder / "config.json", config)
    write_bytes_atomic(place, card)
    write_manifest(folder)
