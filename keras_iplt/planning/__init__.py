"""Deciding which channels go."""
