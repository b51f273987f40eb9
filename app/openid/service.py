"""The rules of what an application learns about a person."""

from app.auth.caller import SignedIn
from app.openid.repository import PersonRepository
from app.openid.schemas import UserInfo


class PersonService:
    """The service that tells about the person of a token."""

    def __init__(self, people: PersonRepository) -> None:
        self.people = people

    async def about(self, user: SignedIn) -> UserInfo:
        """Return the claims that the token's scopes give; a token that may do everything gets all."""
        scopes = None if user.scope is None else user.scope.split()
        told = UserInfo(sub=str(user.id))
        if scopes is None or "profile" in scopes:
            told.preferred_username = user.username
            changed = await self.people.updated_at(user.id)
            if changed:
                told.updated_at = int(changed.timestamp())
        if scopes is None or "email" in scopes:
            told.email, told.email_verified = user.email, user.email_verified
        return told
