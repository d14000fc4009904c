"""The five systems of the notebook that this project began with, and their comparison."""
