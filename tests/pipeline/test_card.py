"""The model of a run and the page that goes with it."""

import json
import re

from small_runs import read_rows

from assay.predict.predictor import load_model

CARD = """# Image classifier: 3 classes

Backbone `tiny` at 32 px, a head on its features. \
NN % of the labels are wrong (NN % to NN %), with no sign that classes differ. \
Counted: NN of 96 checked labels; the rate also uses predictions for 216 labels.

Data: 240 images, 240 with a noisy label, 96 with a trusted label
outside the holdout.

`model.onnx` has NN MB: uint8 pixels (N, 32, 32, 3) in,
probabilities out, for `assay predict`, `assay serve` or any ONNX runtime; `assay export` makes it
smaller.

## Measured

- histogram baseline: accuracy N (N to N, 95% interval, n = 24, holdout), balanced accuracy N (N to N)
- assay: accuracy N (N to N, 95% interval, n = 24, holdout), balanced accuracy N (N to N)
- assay, cross-validated: accuracy N (N to N, 95% interval, n = 96, cross-validation), \
balanced accuracy N (N to N)
- corrected labels, cross-validated: accuracy N (N to N, 95% interval, n = 96, cross-validation), \
balanced accuracy N (N to N)

Each class, assay, cross-validated (cross-validation, n = 96):

```
              precision  recall  f1-score   support

         ash       F       F       F         S
       birch       F       F       F         S
       cedar       F       F       F         S

    accuracy                           F        96
   macro avg       F       F       F        96
weighted avg       F       F       F        96
```

Sets of labels (`--coverage`), on the holdout:

| asked | sets that hold the right label | labels in a set |
|---|---|---|
| 90 % | NN % (NN to NN), n = 24 | F |
| 95 % | NN % (NN to NN), n = 24 | F |

## Limits

The figures hold for images like the trusted ones. Compression and blur were not measured.
A class that is not among the labels is never predicted: such an image gets one of these labels, often
with little confidence.
"""


def without_figures(text: str) -> str:
    text = re.sub(r"\b\d+\.\d\b", "NN", text)
    text = re.sub(r"\b[01]\.\d{4}\b", "N", text)
    text = re.sub(r"\b[01]\.\d\d\b", "F", text)
    text = re.sub(r"\d+ of 96", "NN of 96", text)
    return re.sub(r"(F +)(?!96)\d+$", r"\1S", text, flags=re.MULTILINE)


def test_the_card_says_what_was_measured(finished):
    """README.md of the model names backbone, noise, figures and limits; config.json has the figures too."""
    card = (finished.out / "model" / "README.md").read_text()
    squeezed = [re.sub(r" +", " ", line) for line in without_figures(card).splitlines()]
    assert squeezed == [re.sub(r" +", " ", line) for line in CARD.splitlines()]
    facts = json.loads((finished.out / "model" / "config.json").read_text())["assay"]
    assert (facts["system"], facts["preset"], facts["seed"]) == ("assay", "fast", 0)
    found = finished.result.evaluation["assay"]
    both = {name: getattr(found, name).to_json() for name in ("accuracy", "balanced_accuracy")}
    assert facts["figures"]["assay"] == {"n": 24, "source": "holdout", **both}


def test_the_model_that_was_saved_is_the_one_that_was_measured(finished, small_data):
    """It predicts for the holdout what holdout.csv says, from the images alone."""
    found = load_model(finished.out).predict(small_data.images)
    predicted = dict(zip(found.names, found.predicted, strict=True))
    rows = read_rows(finished.out, "holdout.csv")
    assert len(rows) == 24
    assert {row["file"]: row["predicted_label"] for row in rows} == {
        row["file"]: predicted[row["file"]] for row in rows
    }
