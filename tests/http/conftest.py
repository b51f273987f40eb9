"""The fixtures of the tests of HTTP."""

from tests.browsers import page, service, service_folder  # noqa: F401 - pytest finds the fixtures here
