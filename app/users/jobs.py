"""The jobs that mail users about their accounts, after the requests that caused the mails."""

from app.database.models import now
from app.jobs.mail import MailSender
from app.jobs.models import Payload
from app.jobs.worker import JobHandler
from app.security.tokens import ADDRESS_UNDO, VERIFICATION, Tokens
from app.users.repository import Former, FormerAddressRepository, UserRepository
from app.users.service import ADDRESS_CHANGED_MAIL, VERIFICATION_LIFETIME, VERIFICATION_MAIL, address_state
from app.users.undo import ADDRESS_RESTORED_MAIL, undo_state

VERIFY = """\
Hello {username},

confirm within 24 hours that this address is yours:

{way}

If you have no account at {url}, ignore this mail.
"""
ADDRESS_CHANGED = """\
Hello {username},

the e-mail address of your account at {url} is now {email}.

If it wasn't you who changed it, sign in, change it back and choose a new password.
"""


ADDRESS_CHANGED_UNDO = """\
Hello {username},

the e-mail address of your account at {url} is now {email}.

If it wasn't you who changed it, undo it, by {until}:

{way}

This puts your address back and signs everybody out. The old password no longer works then, and another mail lets you
choose a new one.
"""
ADDRESS_RESTORED = """\
Hello {username},

the e-mail address of your account at {url} was {address}. It has been changed back to the one before, by the link that
was mailed there, and everybody was signed out.

If that address isn't yours, ask whoever runs {url} for help.
"""


class AccountMails:
    """The mails about accounts. A job's payload has ids; its token is made when the mail is, and stored nowhere."""

    def __init__(
        self, users: UserRepository, former: FormerAddressRepository, mail: MailSender, tokens: Tokens
    ) -> None:
        self.users = users
        self.former = former
        self.mail = mail
        self.tokens = tokens

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {
            VERIFICATION_MAIL: self.verify_address,
            ADDRESS_CHANGED_MAIL: self.address_changed,
            ADDRESS_RESTORED_MAIL: self.address_restored,
        }

    async def verify_address(self, payload: Payload) -> None:
        """Mail a token to an address that isn't verified, with which its owner confirms it."""
        user = await self.users.recipient(int(payload["user_id"]))
        if user and not user.email_verified:
            state = address_state(user.email, user.email_version)
            token = self.tokens.issue(VERIFICATION, user.id, VERIFICATION_LIFETIME, state=state)
            way = self.mail.way("verify-email", token)
            await self.mail.send(user.email, "Confirm your e-mail address", VERIFY, username=user.username, way=way)

    async def address_changed(self, payload: Payload) -> None:
        """Mail the old address that it is no longer the account's; if it was confirmed, with a token to undo that."""
        user = await self.users.recipient(int(payload["user_id"]))
        if user is None:
            return
        former = await self._former(user.id, int(payload.get("former_id", 0)))
        values = {"username": user.username, "email": user.email}
        if former:
            token = self.tokens.issue(ADDRESS_UNDO, user.id, former.expires_at - now(), state=undo_state(former))
            values |= {"way": self.mail.way("undo-email", token), "until": f"{former.expires_at:%Y-%m-%d}"}
        text = ADDRESS_CHANGED_UNDO if former else ADDRESS_CHANGED
        await self.mail.send(str(payload["old_address"]), "Your e-mail address was changed", text, **values)

    async def _former(self, user_id: int, former_id: int) -> Former | None:
        return next((former for former in await self.former.of_user(user_id) if former.id == former_id), None)

    async def address_restored(self, payload: Payload) -> None:
        """Mail the address that an undo has put out that it is no longer the account's."""
        user = await self.users.recipient(int(payload["user_id"]))
        if user:
            address, subject = str(payload["address"]), "Your e-mail address was changed back"
            await self.mail.send(address, subject, ADDRESS_RESTORED, username=user.username, address=address)
