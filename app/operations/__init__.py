"""Operating the service: its processes, health, metrics, traces and commands."""
