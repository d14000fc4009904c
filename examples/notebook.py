# %% [markdown]
# # The notebook, retold
#
# Many images, a noisy label for each, trusted labels for a few. A notebook learned five systems from such
# data: a baseline, CNN 1, CNN 2, Model I and Model II. Here they are again, beside `assay`, in a few cells:
# look at the labels, compare all six, look at what they confuse, label new images, and check them.
#
# The images are scikit-learn's digits, so that it runs anywhere in a minute, without a network; three of
# five noisy labels are wrong. Put your own folder and label files in place of `OUT / "images"`,
# `OUT / "noisy.csv"` and `OUT / "trusted.csv"`. What the notebook itself reached, and what its defects
# cost, is in docs/notebook.md.

# %%
import json
import subprocess
import sys
from pathlib import Path

from assay import estimate_noise, read_dataset
from assay.pipeline.demo import draw_digits

OUT = Path("out/notebook")
BACKBONE = "tiny"  # fast and weak; leave the flag out for the pretrained networks


def assay(*words: str | Path) -> str:
    """What the command `assay` prints; in a terminal it is typed without quotes and commas."""
    command = [sys.executable, "-m", "assay", *map(str, words)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


# %% [markdown]
# ## The data
#
# 1,297 images with noisy labels, every fifth with a trusted one, and 500 images that nobody has seen.

# %%
_, new_truth = draw_digits(OUT, seed=0)
dataset = read_dataset(OUT / "images", noisy=OUT / "noisy.csv", trusted=OUT / "trusted.csv")
print(f"{len(dataset):,} images, {(dataset.trusted >= 0).sum():,} of them with a trusted label")

# %% [markdown]
# ## How wrong are the labels?
#
# The notebook looked at eight images. Counting says more, and how sure it is.

# %%
noise = estimate_noise(dataset.noisy, dataset.trusted, len(dataset.classes), classes=dataset.classes)
print(f"wrong labels: {noise.rate.estimate:.1%} ({noise.rate.low:.1%} to {noise.rate.high:.1%})")

# %% [markdown]
# ## All systems, in one table
#
# Each learns in a process of its own. A part of the trusted images is sealed and opened once, for this
# table. `--as-published` brings the notebook's defects back; `--search` shows the search for settings that
# it does not.

# %%
LABELS = ("--noisy", OUT / "noisy.csv", "--trusted", OUT / "trusted.csv")
print(assay("compare", OUT / "images", *LABELS, "-o", OUT / "compared", "--backbone", BACKBONE, "--quiet"))

# %% [markdown]
# The same as numbers, and the pictures: samples with both their names, given against trusted labels,
# predicted against trusted ones, loss and accuracy by epoch, the layers of each model.

# %%
rows = json.loads((OUT / "compared" / "compare.json").read_text(encoding="utf-8"))["rows"]
print({row["title"]: round(row["accuracy"], 3) for row in rows})
for picture in sorted((OUT / "compared").rglob("*.svg")):
    print(picture)

# %% [markdown]
# ## New images
#
# One row an image, one column a system; the notebook's own cell ended in a syntax error.

# %%
PREDICTED = OUT / "label_prediction.csv"
assay("predict", OUT / "compared", OUT / "new", "--all-systems", "-o", PREDICTED, "--quiet")
print("\n".join(PREDICTED.read_text(encoding="utf-8").splitlines()[:5]))

# %% [markdown]
# ## Were they right?
#
# The notebook's last cell: any model on a labelled test set.

# %%
lines = [f"{image:04d}.png,{label}" for image, label in enumerate(new_truth)]
(OUT / "new_labels.csv").write_text("\n".join(["file,label", *lines]) + "\n", encoding="utf-8")
NEW_LABELS = ("--labels", OUT / "new_labels.csv")
print(assay("evaluate", OUT / "compared", OUT / "new", *NEW_LABELS, "--all-systems", "--quiet"))
