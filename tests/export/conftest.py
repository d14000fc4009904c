"""A model of drawn images, and one with convolutions."""

from small_models import conv_images, conv_model, model

__all__ = ["conv_images", "conv_model", "model"]
