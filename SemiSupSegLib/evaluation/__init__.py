"""Overlap, distances, calibration, ranking and errors of predictions. No torch."""
