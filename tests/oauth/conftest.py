"""The fixtures of the tests of applications."""

from tests.oauth.providers import provider, variables  # noqa: F401 - pytest finds the fixtures here
