"""Images to features, computed once, cached."""

from assay.embed.backbone import DEFAULT_BACKBONE, DEFAULT_SIZE, load_backbone
from assay.embed.images import Features, embed_images

__all__ = ["DEFAULT_BACKBONE", "DEFAULT_SIZE", "Features", "embed_images", "load_backbone"]
