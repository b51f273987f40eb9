"""The routes of accounts, and of the verification of e-mail addresses."""

from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.auth.caller import SignedIn
from app.auth.credentials import UserNotFound, WrongPassword
from app.auth.guard import SignedInRequest, caller
from app.auth.schemas import Accepted
from app.errors import TooManyRequests
from app.http.access import (
    ANY_LEVEL,
    FRESH,
    PUBLIC,
    SUPERUSER,
    SUPERUSER_OR_SELF,
    NotAllowedWithThisToken,
    own_session_for,
    scoped,
)
from app.http.client import calling_client
from app.http.openapi import raises
from app.http.paging import PAGE_HEADERS, Count, Cursor, Limit, Search, page_query, page_response
from app.http.requests import Provided
from app.http.schemas import RowId
from app.users.models import User
from app.users.repository import NameTaken
from app.users.schemas import AddressUndo, EmailVerification, RightsUpdate, UserCreate, UserRead, UserUpdate
from app.users.service import (
    InvalidVerificationToken,
    LastSuperuser,
    RegistrationClosed,
    UserService,
    VerificationService,
)
from app.users.undo import InvalidUndoToken, UndoService

ACCOUNT = scoped("account")
USERS = scoped("users")
Users = Provided[UserService]
Verification = Provided[VerificationService]
Sort = Annotated[
    Literal["id", "-id", "created_at", "-created_at", "username", "-username"],
    QueryParameter(description="The order, `-` for descending: names by code point, what is equal by id."),
]


class UserController(Controller):
    """Registration, the caller's own account, and for superusers all accounts."""

    path = "/users"
    tags = ["Users"]

    @post("/", opt=PUBLIC, summary="Register", responses=raises(NameTaken, RegistrationClosed, TooManyRequests))
    async def create_user(
        self, request: Request[Any, Any, Any], users: Users, data: JSONBody[UserCreate]
    ) -> Response[UserRead]:
        """Open an account. Username and e-mail address must be free, in any case."""
        user = await users.register(data, calling_client(request))
        return Response(to_read(user), headers={"Location": f"/users/{user.id}"})

    @get("/", opt=SUPERUSER | USERS, summary="List the accounts", response_headers=PAGE_HEADERS)
    async def list_users(
        self,
        request: SignedInRequest,
        users: Users,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        sort: Sort = "-id",
        q: Search = None,
        count: Count = False,
    ) -> Response[list[UserRead]]:
        """For superusers: all accounts, newest first, in pages; a search looks at names and addresses."""
        query = page_query(request, limit=limit, cursor=cursor, sort=sort, q=q, count=count)
        return page_response(request, query, await users.page(query))

    @get("/me", opt=ACCOUNT | ANY_LEVEL, summary="Read your account")
    async def read_me(self, request: SignedInRequest) -> UserRead:
        """The account that the access token belongs to."""
        return to_read(request.user)

    @patch(
        "/me",
        opt=ACCOUNT | ANY_LEVEL | own_session_for("email"),
        summary="Change your account",
        responses=raises(NameTaken, WrongPassword, NotAllowedWithThisToken, UserNotFound, TooManyRequests),
    )
    async def update_me(self, request: SignedInRequest, users: Users, data: JSONBody[UserUpdate]) -> UserRead:
        """Absent fields keep their value. A new e-mail address needs the current password, and is told by mail.

        A token of a scope changes no address.
        """
        return to_read(await users.update(caller(request), data))

    @delete("/me", opt=FRESH, summary="Delete your account", responses=raises(UserNotFound, LastSuperuser))
    async def delete_me(self, request: SignedInRequest, users: Users) -> None:
        """Your account, its items and its sessions are gone. Needs a sign-in of the last minutes."""
        await users.delete(request.user.id, by=caller(request))

    @get("/{user_id:int}", opt=SUPERUSER_OR_SELF | USERS, summary="Read an account", responses=raises(UserNotFound))
    async def read_user(self, users: Users, user_id: FromPath[RowId]) -> UserRead:
        """For superusers, and for everybody their own."""
        return await users.get_user(user_id)

    @patch(
        "/{user_id:int}",
        opt=SUPERUSER | USERS,
        summary="Change an account's rights",
        responses=raises(UserNotFound, LastSuperuser),
    )
    async def update_user(
        self, request: SignedInRequest, users: Users, user_id: FromPath[RowId], data: JSONBody[RightsUpdate]
    ) -> UserRead:
        """For superusers: disable, enable, promote or demote. The last superuser stays one.

        A disabled user's sessions and tokens have ended for good.
        """
        return to_read(await users.set_rights(user_id, data, by=caller(request)))

    @delete(
        "/{user_id:int}",
        opt=SUPERUSER | USERS,
        summary="Delete an account",
        responses=raises(UserNotFound, LastSuperuser),
    )
    async def delete_user(self, request: SignedInRequest, users: Users, user_id: FromPath[RowId]) -> None:
        """For superusers: the account, its items and its sessions are gone. The last superuser stays."""
        await users.delete(user_id, by=caller(request))


class VerificationController(Controller):
    """The verification of the caller's e-mail address."""

    path = "/email-verification"
    tags = ["Authentication"]

    @post(
        "/",
        status_code=202,
        opt=ACCOUNT,
        summary="Have the verification mail sent again",
        responses=raises(TooManyRequests),
    )
    async def send_verification(self, request: SignedInRequest, verification: Verification) -> Accepted:
        """Mails a token that works once, for 24 hours."""
        await verification.request(request.user, calling_client(request))
        return Accepted()

    @post(
        "/confirm",
        status_code=204,
        opt=PUBLIC,
        summary="Verify your e-mail address",
        responses=raises(InvalidVerificationToken),
    )
    async def verify_email(
        self, request: Request[Any, Any, Any], verification: Verification, data: JSONBody[EmailVerification]
    ) -> None:
        """Takes the token from the mail."""
        await verification.verify(data.token, calling_client(request))


class UndoController(Controller):
    """The undo of a change of an account's address."""

    path = "/email-undo"
    tags = ["Authentication"]

    @post(
        "/confirm",
        status_code=204,
        opt=PUBLIC,
        summary="Undo a change of your e-mail address",
        responses=raises(InvalidUndoToken),
    )
    async def undo_address_change(
        self, request: Request[Any, Any, Any], undo: Provided[UndoService], data: JSONBody[AddressUndo]
    ) -> None:
        """Takes the token that the address before the change was mailed, and puts that address back.

        Every session ends and the password with them; a mail brings the token for a new one.
        """
        await undo.undo(data.token, calling_client(request))


def to_read(user: User | SignedIn) -> UserRead:
    """Return an account without its password's hash."""
    return UserRead(
        id=user.id,
        username=user.username,
        email=user.email,
        is_active=user.is_active,
        is_superuser=user.is_superuser,
        email_verified=user.email_verified,
        created_at=user.created_at,
    )
