"""Operations: the service's processes, health checks, metrics, traces and commands."""
