"""Detectors: they tell generated faces from photographs, given aligned crops."""
