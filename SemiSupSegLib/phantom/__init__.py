"""Made-up patients: brains with tumours, for the demo and for tests."""
