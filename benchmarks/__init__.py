"""Measure what the project costs, and compare it with its peers: `python -m benchmarks --help`."""
