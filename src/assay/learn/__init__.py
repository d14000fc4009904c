"""Heads on features, and the model that is saved."""

from assay.learn.estimator import NoisyLabelClassifier
from assay.learn.heads import MLPHead
from assay.learn.layers import Layers
from assay.learn.model import Model, load_model

__all__ = ["Layers", "MLPHead", "Model", "NoisyLabelClassifier", "load_model"]
