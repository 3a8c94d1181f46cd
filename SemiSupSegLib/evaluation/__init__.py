"""Metrics, calibration, risk-coverage."""
