"""The pages of API tokens."""

from datetime import timedelta
from typing import Any

from litestar import Response, get, post

from app.api_tokens.controller import ApiTokens
from app.api_tokens.schemas import ApiTokenCreate
from app.api_tokens.service import TokenNotFound
from app.database.models import now
from app.http.access import FRESH, token_scopes
from app.http.feature import Parts
from app.http.requests import InTransaction
from app.pages.forms import id_in
from app.pages.visit import FOR_MEMBERS, FeaturePages, Row, Visit, Visiting, shows

SCOPE = "scope."
LIFETIMES = {"7": "a week", "30": "a month", "90": "three months", "365": "a year", "": "never"}
"""The days after which a token ends, as the form offers them."""


@get("/account/tokens", opt=FOR_MEMBERS)
async def tokens_page(visit: Visiting, api_tokens: ApiTokens) -> Response[Any]:
    """Show the tokens."""
    return visit.page("tokens.html", tokens=await api_tokens.all(visit.member.id), now=now())


@post("/account/tokens", opt=FOR_MEMBERS, status_code=200)
async def end_token(visit: Visiting, api_tokens: ApiTokens, transaction: InTransaction) -> Response[Any]:
    """End a token."""
    await api_tokens.end(transaction, visit.caller, id_in(visit.form, "token_id", TokenNotFound))
    return visit.redirect("/account/tokens", "token-ended")


@get("/account/tokens/new", opt=FOR_MEMBERS | FRESH)
async def new_token_page(visit: Visiting) -> Response[Any]:
    """Show the form for a new token."""
    visit.more = choices(visit)
    return visit.page("tokens-new.html")


@post("/account/tokens/new", opt=FOR_MEMBERS | FRESH | shows("tokens-new.html"), status_code=200)
async def create_token(visit: Visiting, api_tokens: ApiTokens, transaction: InTransaction) -> Response[Any]:
    """Create a token, and show it this once."""
    visit.more = choices(visit)
    days = visit.form.get("days", "")
    end = now() + timedelta(days=int(days)) if days and days in LIFETIMES else None
    scopes = [name.removeprefix(SCOPE) for name in visit.form if name.startswith(SCOPE)]
    data = visit.read(ApiTokenCreate, scopes=scopes, expires_at=end)
    known = token_scopes(visit.request.app)
    made = await api_tokens.create(transaction, visit.member, visit.caller, data, known)
    return visit.page("tokens-created.html", made=made)


def choices(visit: Visit) -> dict[str, object]:
    """Return the scopes that the user may give to a token, with what each is for, and the lifetimes."""
    known, about = token_scopes(visit.request.app), visit.site.scopes
    may = {scope: about[scope] for scope, right in known.items() if visit.member.is_superuser or not right}
    return {"scopes": may, "prefix": SCOPE, "lifetimes": LIFETIMES}


def pages(_parts: Parts) -> FeaturePages:
    """Return the pages, and their row."""
    return FeaturePages(
        [tokens_page, end_token, new_token_page, create_token],
        [Row("tokens", "API tokens", "Let scripts in, each for what it needs")],
    )
