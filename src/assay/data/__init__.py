"""Images and labels in: a Dataset out."""

from assay.data.dataset import Dataset, Listing, ReadOptions, Skipped
from assay.data.read import read_dataset, read_images

__all__ = ["Dataset", "Listing", "ReadOptions", "Skipped", "read_dataset", "read_images"]
