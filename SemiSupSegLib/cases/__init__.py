"""Tasks, discovery, case states, splits, geometry. No torch."""
