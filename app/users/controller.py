"""The routes of accounts."""

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, SkipValidation

from app.auth.guard import PUBLIC, SignedIn, SignedInRequest
from app.requests import Session
from app.security import Passwords
from app.users.models import User
from app.users.schemas import UserCreate, UserRead
from app.users.service import UserService

Hasher = NamedDependency[SkipValidation[Passwords]]


class UserController(Controller):
    """Registration and the caller's own account."""

    path = "/users"
    tags = ["Users"]

    @post("/", opt=PUBLIC, summary="Register")
    async def create_user(
        self, transaction: Session, passwords: Hasher, data: JSONBody[UserCreate]
    ) -> Response[UserRead]:
        """Open an account. Username and e-mail address must be free, in any case."""
        user = await UserService(transaction, passwords).register(data)
        return Response(to_read(user), headers={"Location": f"/users/{user.id}"})

    @get("/me", summary="Read your account")
    async def read_me(self, request: SignedInRequest) -> UserRead:
        """The account that the access token belongs to."""
        return to_read(request.user)


def to_read(user: User | SignedIn) -> UserRead:
    """An account without its password's hash."""
    return UserRead(
        id=user.id,
        username=user.username,
        email=user.email,
        is_active=user.is_active,
        is_superuser=user.is_superuser,
        email_verified=user.email_verified,
        created_at=user.created_at,
    )
