"""The pages to sign up, in and out."""

from typing import Any

from litestar import Response, get, post

from app.auth.controller import Auth
from app.auth.schemas import Token
from app.auth.two_steps import TicketRefused
from app.http.access import ANY_LEVEL
from app.pages.forms import required
from app.pages.visit import ACCOUNT, CODE, FOR_ALL, FOR_MEMBERS, SIGN_IN, Visit, Visiting, shows
from app.users.controller import Users
from app.users.schemas import UserCreate


@get("/account/sign-up", opt=FOR_ALL)
async def sign_up_page(visit: Visiting) -> Response[Any]:
    """Show the form to open an account."""
    return visit.redirect(visit.next) if visit.user else visit.page("sign-up.html")


@post("/account/sign-up", opt=FOR_ALL | shows("sign-up.html"), status_code=200)
async def sign_up(visit: Visiting, users: Users, auth: Auth) -> Response[Any]:
    """Open an account, and sign in."""
    user = await users.register(visit.read(UserCreate), visit.client)
    return await enter(visit, await auth.open_session(user.id, visit.client), done="registered")


@get("/account/sign-in", opt=FOR_ALL)
async def sign_in_page(visit: Visiting) -> Response[Any]:
    """Show the form to sign in, unless somebody is."""
    return visit.redirect(visit.next) if visit.user else visit.page("sign-in.html")


@post("/account/sign-in", opt=FOR_ALL | shows("sign-in.html"), status_code=200)
async def sign_in(visit: Visiting) -> Response[Any]:
    """Sign in by name and password, with a second factor up to the code."""
    name, password = required(visit.form, "username", "password")
    return await prove(visit, name, password)


async def prove(visit: Visit, name: str, password: str) -> Response[Any]:
    """Sign in by a password, or go on to the page that asks for the code."""
    opened = await visit.site.sign_in.begin(name, password, visit.client, visit.browser)
    if isinstance(opened, Token):
        return await enter(visit, opened)
    visit.keep_ticket(opened)
    return visit.redirect(CODE, then=visit.next)


@get(CODE, opt=FOR_ALL)
async def code_page(visit: Visiting) -> Response[Any]:
    """Show the form for the code, to whoever has proved the password in the last minutes."""
    try:
        visit.more = await code_form(visit)
    except TicketRefused:
        return begin_again(visit)
    return visit.page("sign-in-code.html")


@post(CODE, opt=FOR_ALL | shows("sign-in-code.html"), status_code=200)
async def sign_in_by_code(visit: Visiting) -> Response[Any]:
    """Sign in by the code, after the password."""
    try:
        visit.more = await code_form(visit)
        (code,) = required(visit.form, "code")
        token = await visit.site.sign_in.finish(visit.ticket, code, visit.client, visit.browser)
    except TicketRefused:
        return begin_again(visit)
    visit.drop_ticket()
    return await enter(visit, token)


async def code_form(visit: Visit) -> dict[str, object]:
    """Return whether the form is for a recovery code, as somebody without their app asks for, and what else there is.

    Raise TicketRefused.
    """
    holder = await visit.site.sign_in.holder(visit.ticket, visit.browser)
    has_passkey = await visit.site.has_passkey(holder.id)
    return {"is_recovery": "recovery" in visit.request.query_params, "has_passkey": has_passkey}


def begin_again(visit: Visit) -> Response[Any]:
    """Lead to the sign-in, from which one comes to where one wanted to go."""
    visit.drop_ticket()
    return visit.redirect(SIGN_IN, "sign-in-again", then=visit.next)


async def enter(visit: Visit, token: Token, done: str = "") -> Response[Any]:
    """Give the browser a cookie for the session that was opened, and go on; a session that it had before ends."""
    visit.enter(await visit.site.browsers.begin(token))
    if visit.user:
        await visit.site.browsers.end(visit.caller)
    return visit.redirect(visit.next, done if visit.next == ACCOUNT else "")


@get("/account/confirm", opt=FOR_MEMBERS | ANY_LEVEL)
async def confirm_page(visit: Visiting) -> Response[Any]:
    """Show the form by which people prove who they are, before they change something that matters."""
    visit.more = {"has_passkey": await visit.site.has_passkey(visit.member.id)}
    return visit.page("confirm.html")


@post("/account/confirm", opt=FOR_MEMBERS | ANY_LEVEL | shows("confirm.html"), status_code=200)
async def confirm(visit: Visiting) -> Response[Any]:
    """Sign in once more, with a second factor by the code, too, and go on."""
    visit.more = {"has_passkey": await visit.site.has_passkey(visit.member.id)}
    (password,) = required(visit.form, "password")
    return await prove(visit, visit.member.username, password)


@post("/account/sign-out", opt=FOR_MEMBERS | ANY_LEVEL, status_code=200)
async def sign_out(visit: Visiting) -> Response[Any]:
    """End the session."""
    await visit.site.browsers.end(visit.caller)
    visit.leave()
    return visit.redirect(SIGN_IN, "signed-out")
