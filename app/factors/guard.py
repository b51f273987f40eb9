"""The check that the guard makes of each request where a policy asks for a second factor."""

from app.auth.caller import SignedIn
from app.auth.guard import SignedInRequest
from app.factors.policy import Policy
from app.http.access import Right, needs_level, right_of
from app.http.feature import Check


def checks_of(policy: Policy) -> list[Check]:
    """Return the check of a policy; none where it asks nobody for a second factor."""
    asks = {"superusers": uses_right, "all": needs_it_of_all}.get(policy.asks)
    if asks is None:
        return []

    async def check(request: SignedInRequest, user: SignedIn) -> None:
        if asks(request, user):
            await policy.check(user)

    return [check]


def uses_right(request: SignedInRequest, user: SignedIn) -> bool:
    """Return whether a request uses a superuser's rights; nobody needs any for their own account."""
    right, path = right_of(request.route_handler), request.path_params
    return right is Right.SUPERUSER or (right is Right.SUPERUSER_OR_SELF and path.get("user_id") != user.id)


def needs_it_of_all(request: SignedInRequest, _user: SignedIn) -> bool:
    """Return whether a request is to a route that is open to nobody without a second factor."""
    return needs_level(request.route_handler)
