"""Training strategies, one a file."""
