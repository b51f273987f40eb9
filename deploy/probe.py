"""Asks the service on this machine whether it is well: `python probe.py /health/ready`; a container's health check.

It imports nothing of the application, whose start takes longer than a check may.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 2


def probe(path: str) -> int:
    """Return the exit status: 0 when the service answers 200 in time, else 1."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=SECONDS)
    try:
        connection.request("GET", path)
        return int(connection.getresponse().status != 200)  # noqa: PLR2004 - a status code reads best as a number
    except (OSError, HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]))
