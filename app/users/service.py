"""The rules of accounts."""

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from email_validator import EmailNotValidError, validate_email
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import BadRequest, InvalidField, InvalidFields, is_duplicate
from app.security import Passwords
from app.users.models import User
from app.users.schemas import UserCreate


class NameTaken(BadRequest):
    """Somebody has that username or address already, in whatever case."""

    detail = "Username or email already registered"


class UserRepository(SQLAlchemyAsyncRepository[User]):
    """The rows of `users`."""

    model_type = User


class UserService:
    """Registers people."""

    def __init__(self, session: AsyncSession, passwords: Passwords) -> None:
        """The session is in a transaction of the caller's, who commits it."""
        # The driver's own errors are kept: the repository's would call an outage a conflict.
        self.users = UserRepository(session=session, wrap_exceptions=False, auto_refresh=False)
        self.passwords = passwords

    async def register(self, data: UserCreate, *, is_superuser: bool = False) -> User:
        """A new account. Raises NameTaken, also for the later of two at the same instant, and InvalidFields."""
        email = normalise_email(data.email)
        # Hashed before the first statement, so that no transaction is open and no connection held meanwhile.
        hashed = await self.passwords.hash(data.password)
        user = User(
            username=data.username,
            username_key=name_key(data.username),
            email=email,
            email_key=name_key(email),
            hashed_password=hashed,
            is_superuser=is_superuser,
        )
        try:
            return await self.users.add(user)
        except IntegrityError as error:
            if is_duplicate(error):
                raise NameTaken from error
            raise


def name_key(name: str) -> str:
    """What makes two names or addresses the same: they differ in case at most."""
    return name.casefold()


def normalise_email(address: str) -> str:
    """The address in its normal form, checked by its syntax alone. Raises InvalidFields."""
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        raise InvalidFields(InvalidField("/email", "must be an e-mail address")) from None
