# %% [markdown]
# # Texts instead of images
#
# What `assay` does with the features of images it does with those of anything: texts, sounds, rows of a
# table. Here are a thousand short texts with wrong labels. Their features come from scikit-learn's TF-IDF;
# those of a language model would be better, and nothing else would change.
#
# The texts are what SciPy's own documentation says about its functions, and the label is the part of SciPy
# that a function belongs to. So it runs anywhere in a minute, without a network; two of five labels are made
# wrong. In place of `vectors` put your own array, one row for each line of your label file.

# %%
import importlib
import inspect
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import assay
from assay.data.simulate import spoil, symmetric

OUT = Path("out/texts")
PARTS = ("linalg", "ndimage", "optimize", "signal", "sparse", "special", "stats")

# %% [markdown]
# ## The texts
#
# The first sixty words about each function. 200 texts stay aside, as new ones for the end.

# %%
part_of, text_of = {}, {}
for part in PARTS:
    module = importlib.import_module(f"scipy.{part}")
    for name in module.__all__:
        words = (inspect.getdoc(getattr(module, name)) or "").split()[:60]
        if len(words) >= 20:
            part_of[f"scipy.{part}.{name}"], text_of[f"scipy.{part}.{name}"] = part, " ".join(words)

generator = np.random.default_rng(0)
names = generator.permutation([*part_of])
truth = np.array([PARTS.index(part_of[name]) for name in names])
new, old = np.arange(200), np.arange(200, len(names))
print(f"{len(old):,} texts with labels, such as {names[old[0]]}: {text_of[names[old[0]]][:70]}…")

# %% [markdown]
# ## Features
#
# One row of 100 numbers for each text. What computes them must be kept: new texts go the same way.

# %%
embed = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, stop_words="english"), TruncatedSVD(100, random_state=0)
)
vectors = embed.fit_transform([text_of[name] for name in names[old]])
OUT.mkdir(parents=True, exist_ok=True)
np.save(OUT / "vectors.npy", vectors.astype(np.float32))

# %% [markdown]
# ## Wrong labels, and a few that were checked
#
# Row i of the features belongs to row i of the noisy labels. A third of the texts, drawn at random, was
# checked.

# %%
labels = np.array(PARTS, dtype=object)
noisy = spoil(truth[old], symmetric(len(PARTS), 0.4), seed=0)
checked = np.sort(generator.permutation(len(old))[: len(old) // 3])

# %% [markdown]
# ## The whole job
#
# In a terminal, with the labels in files:
# `assay run --features vectors.npy --noisy noisy.csv --trusted trusted.csv -o run/`

# %%
result = assay.run(
    None,
    OUT / "run",
    features=OUT / "vectors.npy",
    noisy={"file": names[old], "label": labels[noisy]},
    trusted={"file": names[old][checked], "label": labels[truth[old][checked]]},
)
print(result)

# %% [markdown]
# Functions that SciPy describes in nearly the same words are near-duplicates: they share a fold, and held-out
# ones are in no figure. `assay audit out/texts/run` lists them.
#
# The truth is known here, so the corrected labels can be counted on the texts that nobody checked.

# %%
others = np.setdiff1d(np.arange(len(old)), checked)
corrected = result.labels.frame["corrected_label"].to_numpy()
right = {
    "noisy": np.mean(noisy[others] == truth[old][others]),
    "corrected": np.mean(corrected[others] == labels[truth[old][others]]),
}
print(f"right labels: {right['noisy']:.1%} of the noisy ones, {right['corrected']:.1%} of the corrected ones")
print(result.labels.issues.select("file", "noisy_label", "corrected_label", "confidence").head(8))

# %% [markdown]
# ## New texts
#
# The model is ONNX: float32 features in, probabilities out. `assay predict run/ --features new.npy` does the
# same.

# %%
found = result.model.predict(embed.transform([text_of[name] for name in names[new]]))
accuracy = np.mean(np.array(found.predicted) == labels[truth[new]])
print(f"{accuracy:.1%} of {len(new)} new texts are put into the right part of SciPy")
