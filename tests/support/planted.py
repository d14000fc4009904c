"""Systems with something planted in them, in a module that other processes can import."""

import os
import signal
import time
from dataclasses import replace
from uuid import uuid4

import numpy as np
from planted_works import HUNGER_BYTES, wait

from assay.embed.tiny import TinyBackbone
from assay.export.graph import with_graph
from assay.notebook.networks import Epoch
from assay.notebook.systems import SYSTEMS, Task, Trained, prepare_training_data
from assay.predict.model import Model
from assay.train.heads import fit_logistic
from assay.types import UNKNOWN


def quick(task: Task) -> Trained:
    """Logistic regression on trusted labels; its facts tell the training from others, and what it saw."""
    backbone = TinyBackbone()
    training_data = prepare_training_data(task, backbone)
    rows = np.flatnonzero(training_data.trusted != UNKNOWN)
    head = fit_logistic(training_data.X[rows], training_data.trusted[rows], len(task.dataset.classes))
    labels = task.dataset.noisy[task.held], task.dataset.trusted[task.held]
    facts = {
        "pid": os.getpid(),
        "training": uuid4().hex,
        "held": int(task.held.sum()),
        "seen": int(sum((part != UNKNOWN).sum() for part in labels)),
        **training_data.facts(),
    }
    model = Model("tiny", 32, task.dataset.classes, head, titles=task.dataset.titles, facts=facts)
    model = training_data.export(model, None, backbone).model
    epochs = tuple(Epoch("noisy", number, 1 / number, number / 4, 0.5) for number in (1, 2))
    return Trained(model, epochs, {"train": 1.0})


def hungry(task: Task) -> Trained:
    """The same after half a second, with much memory meanwhile."""
    held = np.ones(HUNGER_BYTES, dtype=np.uint8)
    time.sleep(0.5)
    del held
    return quick(task)


def constant(task: Task) -> Trained:
    """A model that always predicts the first class."""
    trained = quick(task)
    k = len(task.dataset.classes)
    weight, bias = np.zeros((384, k), dtype=np.float32), np.eye(k, dtype=np.float32)[0]
    model = replace(trained.model, head=replace(trained.model.head, weights=(weight, bias)))
    return replace(trained, model=with_graph(model, None, np.zeros((1, 32, 32, 3), dtype=np.uint8)))


def killed(task: Task) -> Trained:
    """What the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(task)


def waits_once(task: Task) -> Trained:
    """The first time it writes its process id to a file and waits to be ended."""
    began = task.folder / "began"
    if not began.exists():
        wait(began, print, print)
    return quick(task)


def plant(named: str) -> None:
    """``cnn-1=quick model-2=killed`` puts systems of this module in the place of those."""
    for pair in named.split():
        system, name = pair.split("=")
        SYSTEMS[system] = globals()[name]
