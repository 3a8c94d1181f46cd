"""Loss terms, confidence measures and schedules."""
