"""The pages of second factors: an authenticator app, recovery codes to print, and passkeys."""

import re
from typing import Any

from litestar import Response, get, post
from markupsafe import Markup

from app.factors.controller import Totp
from app.factors.listing import FactorList
from app.factors.passkeys.repository import PasskeyRepository
from app.factors.passkeys.service import MAX_PASSKEYS
from app.factors.schemas import TotpConfirmation
from app.http.access import ANY_LEVEL, FRESH
from app.http.feature import Parts
from app.http.requests import Provided
from app.pages import passkeys
from app.pages.visit import FOR_MEMBERS, SECURITY, FeaturePages, Row, Visiting, shows

OPEN = FOR_MEMBERS | ANY_LEVEL


@get(SECURITY, opt=OPEN)
async def security_page(visit: Visiting, factor_list: Provided[FactorList], totp: Totp) -> Response[Any]:
    """Show the second factors, and whether one has to be added or proved, before one goes on."""
    factors, is_missed = await factor_list.read(visit.member.id), totp.policy.misses(visit.member)
    return visit.page("security.html", factors=factors, is_missed=is_missed, most=MAX_PASSKEYS)


@get(f"{SECURITY}/app", opt=OPEN | FRESH)
async def app_page(visit: Visiting, factor_list: Provided[FactorList]) -> Response[Any]:
    """Say what an authenticator app is for, with a button that begins; lead back where there is one already."""
    factors = await factor_list.read(visit.member.id)
    return visit.redirect(SECURITY) if factors.totp else visit.page("security-app.html")


@post(f"{SECURITY}/app", opt=OPEN | FRESH | shows("security-app-code.html"), status_code=200)
async def add_app(visit: Visiting, totp: Totp) -> Response[Any]:
    """Show the secret, or take the app's first code and show the recovery codes, each this once."""
    if visit.form.get("action") != "confirm":
        secret = await totp.begin(visit.member)
        qr = Markup(secret.qr)  # noqa: S704 - segno has made it
        return visit.page("security-app-code.html", key=re.findall("....", secret.secret), qr=qr)
    codes = await totp.confirm(visit.member, visit.caller, visit.read(TotpConfirmation).code)
    return visit.page("recovery-codes.html", codes=codes, is_first=True)


@get(f"{SECURITY}/codes", opt=OPEN | FRESH)
async def codes_page(visit: Visiting) -> Response[Any]:
    """Say what recovery codes are for, with a button that makes new ones."""
    return visit.page("security-codes.html")


@post(f"{SECURITY}/codes", opt=OPEN | FRESH, status_code=200)
async def replace_codes(visit: Visiting, totp: Totp) -> Response[Any]:
    """Show new recovery codes, this once."""
    codes = await totp.replace_codes(visit.member, visit.caller)
    return visit.page("recovery-codes.html", codes=codes, is_first=False)


@get(f"{SECURITY}/remove", opt=OPEN | FRESH)
async def remove_page(visit: Visiting) -> Response[Any]:
    """Show the form that removes the app."""
    return visit.page("security-remove.html")


@post(f"{SECURITY}/remove", opt=OPEN | FRESH, status_code=200)
async def remove_app(visit: Visiting, totp: Totp) -> Response[Any]:
    """Remove the app."""
    await totp.remove(visit.member, visit.caller)
    return visit.redirect(SECURITY, "app-removed")


def pages(parts: Parts) -> FeaturePages:
    """Return the pages, their row, and what tells other pages whether somebody has a passkey."""
    routes = [security_page, app_page, add_app, codes_page, replace_codes, remove_page, remove_app, *passkeys.PAGES]
    rows = [Row("security", "Security", "A second step when you sign in")]
    repository = PasskeyRepository(parts.database)

    async def has_passkey(user_id: int) -> bool:
        return bool(await repository.credentials_of(user_id))

    return FeaturePages(routes, rows, has_passkey)
