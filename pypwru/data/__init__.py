"""Priorities and categories, as data."""
