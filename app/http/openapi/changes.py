"""The two kinds of changes that make Litestar's document ours: of each operation, and of the document as a whole."""

from collections.abc import Callable, Iterable
from typing import Any

from litestar.handlers import HTTPRouteHandler

Node = dict[str, Any]
"""A part of the document, as JSON has it."""
OperationChange = Callable[[Node, HTTPRouteHandler], None]
"""Changes an operation in place, by what its handler is."""
DocumentChange = Callable[[Node, Iterable[HTTPRouteHandler]], None]
"""Changes the document in place, by what its handlers are."""
