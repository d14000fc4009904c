"""Images and labels in: a Dataset out."""
