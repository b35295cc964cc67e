"""Pruning single weights."""
