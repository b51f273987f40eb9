"""Codes: those of authenticator apps (RFC 6238: SHA-1, six digits, 30 seconds), and recovery codes."""

import base64
import hmac
import re
import secrets
from collections.abc import Iterator
from io import BytesIO

import pyotp

STEP_SECONDS = 30
ACCEPTED_STEPS = (0, -1, 1)
"""The steps whose codes are accepted, from the present one on: clocks differ, and people take a while to type."""
RECOVERY_CODES = 10
RECOVERY_BYTES = 15
"""120 random bits, so that an ordinary digest of a code can't be turned back (ASVS 6.5.2)."""
SECRET_BYTES = 20
DIGITS = re.compile(r"[0-9]{6}")
SEPARATORS = re.compile(r"[\s-]")


def new_secret() -> str:
    """Return a random secret of 160 bits, as long as SHA-1's output (RFC 4226, section 4), in base32."""
    return pyotp.random_base32(SECRET_BYTES * 8 // 5)


def otpauth_uri(secret: str, account: str, issuer: str) -> str:
    """Return the address by which an app takes a secret over; `account` and `issuer` are what it shows."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(text: str) -> str:
    """Return a QR code as an SVG, which is shown in any size."""
    import segno  # noqa: PLC0415 - only where it is needed

    image, code = BytesIO(), segno.make(text, error="m", micro=False)
    code.save(image, kind="svg", scale=4, xmldecl=False, light="#fff")
    width, height = code.symbol_size(scale=4)
    return image.getvalue().decode().strip().replace("<svg ", f'<svg viewBox="0 0 {width} {height}" ', 1)


def plain(code: str) -> str:
    """Return a code without the spaces and hyphens by which people read it, in small letters."""
    return SEPARATORS.sub("", code).lower()


def is_of_app(code: str) -> bool:
    """Return whether a plain code looks like one of an app; all others can only be recovery codes."""
    return bool(DIGITS.fullmatch(code))


def matching_steps(secret: str, code: str, at: float) -> Iterator[int]:
    """Yield the accepted steps whose code this is, the present one first; `at` is in seconds since 1970."""
    totp, present = pyotp.TOTP(secret), int(at) // STEP_SECONDS
    for step in (present + offset for offset in ACCEPTED_STEPS):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode()):  # It takes only ASCII in texts.
            yield step


def new_recovery_codes() -> list[str]:
    """Return ten random codes, in groups of four letters and digits."""
    return [grouped(base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode()) for _ in range(RECOVERY_CODES)]


def grouped(text: str) -> str:
    """Return a text in small letters, with a hyphen after each four characters."""
    return "-".join(re.findall("....", text.lower()))
