"""The options of a route (Litestar's `opt`): who may call it, with which scope, and how strictly its request is read.

The guard checks these options; the OpenAPI document and `litestar route-table` show them.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from weakref import WeakKeyDictionary

from litestar import Litestar
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from app.database.models import now
from app.errors import Forbidden, Unauthorized

PUBLIC_KEY = "exclude_from_auth"
"""Litestar's own option: its authentication passes over the routes that have it."""
RIGHT_KEY = "right"
SCOPES_KEY = "scopes"
SCOPE_KEY = "scope"
OWN_SESSION_FIELDS_KEY = "own_session_fields"
FRESH_KEY = "fresh"
ANY_LEVEL_KEY = "any_level"
LENIENT_KEY = "lenient"
FORM_KEY = "form"
OAUTH_ERRORS_KEY = "oauth_errors"
"""The option for the OAuthErrors of a route whose other errors of the same status are problem details."""
NEEDS: WeakKeyDictionary[BaseRouteHandler, tuple[str | None, bool]] = WeakKeyDictionary()
"""What `needs_of` has worked out of each route, as long as its application is there."""


class Right(StrEnum):
    """A right that a route asks of its signed-in caller."""

    SUPERUSER = "superuser"
    SUPERUSER_OR_SELF = "superuser or self"
    """A superuser, or the user whose id the path has as `user_id`."""


PUBLIC = {PUBLIC_KEY: True}
"""Anyone may call the route. Every other route needs a signed-in caller."""
SUPERUSER = {RIGHT_KEY: Right.SUPERUSER}
SUPERUSER_OR_SELF = {RIGHT_KEY: Right.SUPERUSER_OR_SELF}
FRESH = {FRESH_KEY: True}
"""The caller must have signed in, or proved who they are, a few minutes ago (FRESH_SIGN_IN_MINUTES)."""
ANY_LEVEL = {ANY_LEVEL_KEY: True}
"""The route is open to sessions without a second factor, even where all others aren't (SECOND_FACTOR=all)."""
LENIENT = {LENIENT_KEY: True}
"""The route ignores query parameters that it doesn't know: docs, health and the OAuth endpoints do."""


SECURITY_SCHEME = "OAuth2"
"""The guard's name in the OpenAPI document."""


class NotAllowedWithThisToken(Forbidden):
    """The route governs how somebody signs in, or changes what is others': it takes the user's own sessions alone."""

    detail = "Not allowed with this token"


class PersonNeeded(Forbidden):
    """The route is a person's, and an application acts for itself."""

    detail = "Only a person can do this"


class InsufficientScope(Forbidden):
    """The token lacks the scope that the route needs (RFC 6750, section 3.1)."""

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(f"The token lacks the scope {scope}", headers={"WWW-Authenticate": challenge})


class SuperuserOnly(Forbidden):
    """The caller is no superuser."""

    detail = "Only superusers may do this"


class StaleSignIn(Unauthorized):
    """The caller has signed in too long ago, and must prove who they are again (RFC 9470)."""

    detail = "Sign in again: it was too long ago"

    def __init__(self, max_age: timedelta) -> None:
        seconds = int(max_age.total_seconds())
        challenge = f'Bearer error="insufficient_user_authentication", max_age="{seconds}"'
        super().__init__(headers={"WWW-Authenticate": challenge})


def is_public(handler: BaseRouteHandler) -> bool:
    """Return whether a route answers callers who aren't signed in."""
    return bool(handler.opt.get(PUBLIC_KEY))


def is_lenient(handler: BaseRouteHandler) -> bool:
    """Return whether a route ignores query parameters that it doesn't know."""
    return bool(handler.opt.get(LENIENT_KEY))


def is_fresh(handler: BaseRouteHandler) -> bool:
    """Return whether a route needs a recent sign-in."""
    return bool(handler.opt.get(FRESH_KEY))


def needs_level(handler: BaseRouteHandler) -> bool:
    """Return whether a route is closed to sessions without a second factor, where others aren't (SECOND_FACTOR=all)."""
    return not handler.opt.get(ANY_LEVEL_KEY)


def right_of(handler: BaseRouteHandler) -> Right | None:
    """Return the right that a route asks of its signed-in caller; None where it asks for none."""
    right: Right | None = handler.opt.get(RIGHT_KEY)
    return right


def scoped(resource: str) -> dict[str, str]:
    """Return the option of routes that need the scope `resource:read`, or `resource:write` to change something.

    A guarded route without it takes no token of a scope, only those that may do everything that their user may.
    """
    return {SCOPES_KEY: resource}


def needs_scope(scope: str) -> dict[str, str]:
    """Return the option of routes that need one scope, whatever their method."""
    return {SCOPE_KEY: scope}


def scope_of(handler: BaseRouteHandler) -> str | None:
    """Return the scope that a route needs; None where no scope is enough, and where none is needed."""
    if scope := handler.opt.get(SCOPE_KEY):
        return str(scope)
    resource = handler.opt.get(SCOPES_KEY)
    if resource is None or is_public(handler):
        return None
    methods = handler.http_methods if isinstance(handler, HTTPRouteHandler) else ()
    return f"{resource}:read" if "GET" in methods else f"{resource}:write"


def is_superusers_change(handler: BaseRouteHandler) -> bool:
    """Return whether a route changes something by a superuser's right."""
    scope = scope_of(handler)
    return right_of(handler) is not None and scope is not None and scope.endswith(":write")


def needs_of(handler: BaseRouteHandler) -> tuple[str | None, bool]:
    """Return the scope that a route needs, and whether it needs a superuser's own session; work it out once."""
    needs = NEEDS.get(handler)
    if needs is None:
        needs = NEEDS[handler] = scope_of(handler), is_superusers_change(handler)
    return needs


def token_scopes(app: Litestar) -> dict[str, bool]:
    """Return the scopes that a token for scripts may have, and whether each needs a right, too.

    They are those of resources by which such tokens may call some route; OpenID Connect's are for applications.
    """
    handlers = [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]
    scopes: dict[str, bool] = {}
    for handler in handlers:
        if (scope := scope_of(handler)) and ":" in scope and not is_superusers_change(handler):
            scopes[scope] = scopes.get(scope, False) or right_of(handler) is not None
    return scopes


def own_session_for(*fields: str) -> dict[str, Sequence[str]]:
    """Return the option of a route that changes these fields of its body for no token of a scope, whatever the scope.

    The fields of its Struct are UNSET where a client leaves them out.
    """
    return {OWN_SESSION_FIELDS_KEY: fields}


def own_session_fields(handler: BaseRouteHandler) -> Sequence[str]:
    """Return the fields that a route changes for no token of a scope."""
    fields: Sequence[str] = handler.opt.get(OWN_SESSION_FIELDS_KEY, ())
    return fields


def check_scope(handler: BaseRouteHandler, scopes: Container[str], *, is_own_session: bool) -> None:
    """Raise NotAllowedWithThisToken and InsufficientScope unless a token of these scopes may call a route.

    What superusers change needs a session of their own, which may be narrowed, whatever scopes other tokens have.
    """
    scope, needs_own_session = needs_of(handler)
    if scope is None or (needs_own_session and not is_own_session):
        raise NotAllowedWithThisToken
    if scope not in scopes:
        raise InsufficientScope(scope)


def check_right(handler: BaseRouteHandler, path: Mapping[str, object], user_id: int, *, is_superuser: bool) -> None:
    """Raise SuperuserOnly unless the caller has the right that a route asks for; `path` has the path's parameters."""
    right = right_of(handler)
    if right is None or is_superuser or (right is Right.SUPERUSER_OR_SELF and path.get("user_id") == user_id):
        return
    raise SuperuserOnly


def check_fresh(authenticated_at: datetime | None, max_age: timedelta) -> None:
    """Raise StaleSignIn when a sign-in is older than a route that needs a recent one takes it."""
    if authenticated_at is None or now() - authenticated_at > max_age:
        raise StaleSignIn(max_age)


def access_of(handler: BaseRouteHandler) -> str:
    """Return who may call a route, as `litestar route-table` shows it: `public`, `signed in` or a right.

    `fresh` stands after it where the sign-in must be recent.
    """
    if is_public(handler):
        return "public"
    access = right_of(handler) or "signed in"
    return f"{access}, fresh" if is_fresh(handler) else access
