"""Shards: the rows of a large data set in parts of some ten thousand, and functions mapped over them."""
