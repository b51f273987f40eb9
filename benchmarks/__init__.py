"""The project measured against its peers, and what it costs: `python -m benchmarks --help`."""
