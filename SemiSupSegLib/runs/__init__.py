"""Run and job folders: run.json, state, events, lock, control files. No torch."""
