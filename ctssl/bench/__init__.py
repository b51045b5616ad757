"""Measurements; one file each, one JSON object each."""
