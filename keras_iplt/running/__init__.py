"""A model on data."""
