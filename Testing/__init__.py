"""Tests, what they share, and benchmarks: a package by name, as others have a folder `Testing`."""
