"""Learn a small image classifier from many noisy labels and a few trusted ones."""

__version__ = "0.1.0.dev0"
