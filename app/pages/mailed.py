"""The pages to which mails lead, and the one that asks for a mail.

A GET does nothing but show a form, since programs that look through mails open their links, and run scripts, too.
"""

from typing import Any

from litestar import Response, get, post

from app.auth.controller import Credentials
from app.auth.schemas import PasswordReset, PasswordResetRequest
from app.http.requests import InTransaction, Provided
from app.pages.visit import ACCOUNT, FOR_ALL, SIGN_IN, Visiting, shows
from app.users.controller import Verification
from app.users.schemas import AddressUndo, EmailVerification
from app.users.undo import UndoService


@get("/account/verify-email", opt=FOR_ALL)
async def verify_email_page(visit: Visiting) -> Response[Any]:
    """Show the form that takes the token of the mail."""
    return visit.page("verify-email.html")


@post("/account/verify-email", opt=FOR_ALL | shows("verify-email.html"), status_code=200)
async def verify_email(visit: Visiting, verification: Verification) -> Response[Any]:
    """Confirm the address to which the token was mailed."""
    await verification.verify(visit.read(EmailVerification).token, visit.client)
    return visit.redirect(ACCOUNT if visit.user else SIGN_IN, "address-verified")


@get("/account/undo-email", opt=FOR_ALL)
async def undo_email_page(visit: Visiting) -> Response[Any]:
    """Show the form that takes the token of the mail."""
    return visit.page("undo-email.html")


@post("/account/undo-email", opt=FOR_ALL | shows("undo-email.html"), status_code=200)
async def undo_email(visit: Visiting, undo: Provided[UndoService]) -> Response[Any]:
    """Put the address back to which the token was mailed."""
    await undo.undo(visit.read(AddressUndo).token, visit.client)
    return visit.redirect(SIGN_IN, "address-restored")


@get("/account/forgot-password", opt=FOR_ALL)
async def forgot_password_page(visit: Visiting) -> Response[Any]:
    """Show the form that asks for a mail."""
    return visit.page("forgot-password.html")


@post("/account/forgot-password", opt=FOR_ALL | shows("forgot-password.html"), status_code=200)
async def forgot_password(visit: Visiting, credentials: Credentials, transaction: InTransaction) -> Response[Any]:
    """Have a token mailed; the answer is the same whether the account exists or not."""
    await credentials.request_reset(transaction, visit.read(PasswordResetRequest).email, visit.client)
    return visit.redirect("/account/forgot-password", "reset-sent")


@get("/account/reset-password", opt=FOR_ALL)
async def reset_password_page(visit: Visiting) -> Response[Any]:
    """Show the form that takes the token of the mail, and a new password."""
    return visit.page("reset-password.html")


@post("/account/reset-password", opt=FOR_ALL | shows("reset-password.html"), status_code=200)
async def reset_password(visit: Visiting, credentials: Credentials) -> Response[Any]:
    """Set a new password; every session ends."""
    data = visit.read(PasswordReset)
    await credentials.reset(data.token, data.new_password, visit.client)
    return visit.redirect(SIGN_IN, "password-reset")
