"""Heads on features, and the model that is saved."""

from assay.learn.layers import Layers
from assay.learn.model import Model, load_model

__all__ = ["Layers", "Model", "load_model"]
