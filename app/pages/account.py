"""The pages on which people look after their account."""

from typing import Any

from litestar import Response, get, post
from msgspec import Struct

from app.auth.controller import Credentials, Sessions
from app.auth.schemas import CurrentPassword, PasswordChange
from app.auth.sessions import SessionNotFound
from app.http.access import ANY_LEVEL, FRESH
from app.http.requests import InTransaction
from app.pages.forms import id_in
from app.pages.visit import FOR_MEMBERS, SIGN_IN, Visiting, shows
from app.users.controller import Users, Verification
from app.users.schemas import Email, Username, UserUpdate


class NewName(Struct):
    """The form for another username, which a browser always sends."""

    username: Username


class NewAddress(Struct):
    """The form for another address, which needs the password."""

    email: Email
    current_password: CurrentPassword


@get("/account", opt=FOR_MEMBERS | ANY_LEVEL)
async def overview(visit: Visiting) -> Response[Any]:
    """Show the account, and where its parts are changed."""
    return visit.page("account.html")


@get("/account/profile", opt=FOR_MEMBERS | ANY_LEVEL)
async def profile_page(visit: Visiting) -> Response[Any]:
    """Show the form for the username."""
    return visit.page("profile.html")


@post("/account/profile", opt=FOR_MEMBERS | ANY_LEVEL | shows("profile.html"), status_code=200)
async def change_profile(visit: Visiting, users: Users) -> Response[Any]:
    """Change the username."""
    await users.update(visit.caller, UserUpdate(username=visit.read(NewName).username))
    return visit.redirect("/account/profile", "saved")


@get("/account/email", opt=FOR_MEMBERS | ANY_LEVEL)
async def email_page(visit: Visiting) -> Response[Any]:
    """Show the address, whether it is confirmed, and the form for another."""
    return visit.page("email.html")


@post("/account/email", opt=FOR_MEMBERS | ANY_LEVEL | shows("email.html"), status_code=200)
async def change_email(visit: Visiting, users: Users, verification: Verification) -> Response[Any]:
    """Change the address, or have the mail sent again that confirms it."""
    if visit.form.get("action") == "send":
        await verification.request(visit.member, visit.client)
        return visit.redirect("/account/email", "mail-sent")
    data = visit.read(NewAddress)
    await users.update(visit.caller, UserUpdate(email=data.email, current_password=data.current_password))
    return visit.redirect("/account/email", "address-changed")


@get("/account/password", opt=FOR_MEMBERS)
async def password_page(visit: Visiting) -> Response[Any]:
    """Show the form for a new password."""
    return visit.page("password.html")


@post("/account/password", opt=FOR_MEMBERS | shows("password.html"), status_code=200)
async def change_password(visit: Visiting, credentials: Credentials) -> Response[Any]:
    """Set a new password; every other session ends, and this browser's cookie is replaced."""
    data = visit.read(PasswordChange)
    await credentials.change(visit.caller, data.current_password, data.new_password)
    visit.enter(await visit.site.browsers.renew(visit.member))
    return visit.redirect("/account/password", "password-changed")


@get("/account/sessions", opt=FOR_MEMBERS | ANY_LEVEL)
async def sessions_page(visit: Visiting, sessions: Sessions) -> Response[Any]:
    """Show where one is signed in."""
    return visit.page("sessions.html", sessions=await sessions.all(visit.member.id, visit.member.session_id))


@post("/account/sessions", opt=FOR_MEMBERS | ANY_LEVEL, status_code=200)
async def end_sessions(visit: Visiting, sessions: Sessions, transaction: InTransaction) -> Response[Any]:
    """End one session, or all but this one."""
    if visit.form.get("session_id") == "others":
        await sessions.end_others(transaction, visit.caller)
        return visit.redirect("/account/sessions", "sessions-ended")
    await sessions.end(transaction, visit.caller, id_in(visit.form, "session_id", SessionNotFound))
    return visit.redirect("/account/sessions", "session-ended")


@get("/account/delete", opt=FOR_MEMBERS | FRESH)
async def delete_page(visit: Visiting) -> Response[Any]:
    """Show the form that deletes the account."""
    return visit.page("delete.html")


@post("/account/delete", opt=FOR_MEMBERS | FRESH | shows("delete.html"), status_code=200)
async def delete_account(visit: Visiting, users: Users) -> Response[Any]:
    """Delete the account with all that belongs to it."""
    await users.delete(visit.member.id, by=visit.caller)
    visit.leave()
    return visit.redirect(SIGN_IN, "deleted")
