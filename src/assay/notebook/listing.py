"""The recipes of a comparison, by the names that flags, folders and JSON use."""

from assay.notebook.cnn import cnn_1, cnn_2
from assay.notebook.histogram import histogram
from assay.notebook.task import System
from assay.notebook.transfer import model_1, model_2

SYSTEMS: dict[str, System] = {
    "histogram": histogram,
    "cnn-1": cnn_1,
    "cnn-2": cnn_2,
    "model-1": model_1,
    "model-2": model_2,
}
"""Each is a function from a ``Task`` to a ``Trained``; ``assay`` itself is run by ``systems.run``."""

TITLES = {
    "histogram": "Baseline",
    "cnn-1": "CNN 1",
    "cnn-2": "CNN 2",
    "model-1": "Model I",
    "model-2": "Model II",
    "assay": "Assay",
}
"""What people call them: the notebook's names, in its order."""
