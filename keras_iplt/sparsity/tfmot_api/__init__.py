"""The names of `tfmot.sparsity.keras`, for Keras 3 models."""
