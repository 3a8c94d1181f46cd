"""HTML report and its figures."""
