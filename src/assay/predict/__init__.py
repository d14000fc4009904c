"""Saved models, and new images to rows."""
