"""A model of drawn images, and images to predict."""

from small_models import model, new_images

__all__ = ["model", "new_images"]
