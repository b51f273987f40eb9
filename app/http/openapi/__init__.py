"""The OpenAPI document: its rules, the repairs of what the framework makes, and the whole."""

from app.http.openapi.document import openapi_config
from app.http.openapi.rules import raises

__all__ = ["openapi_config", "raises"]
