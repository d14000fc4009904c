"""Heads, small networks, fine-tuning, and the model that is saved."""
