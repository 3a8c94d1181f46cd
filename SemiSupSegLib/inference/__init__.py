"""Sliding window, maps, calibration, results on the original grid."""
