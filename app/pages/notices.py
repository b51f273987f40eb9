"""The texts by which pages say what was done. An address names one of these, and can't bring a text of its own."""

NOTICES = {
    "address-changed": "Your e-mail address was changed. A mail is on its way to the new one, to confirm it.",
    "address-restored": (
        "Your address is back, and everybody was signed out. A mail is on its way with which you set a new password."
    ),
    "address-verified": "Thank you: your e-mail address is confirmed.",
    "device-allowed": "The device is in. You can go on there.",
    "device-refused": "The device was not let in.",
    "grant-ended": "That application may do nothing for you any more.",
    "app-removed": "The authenticator app was removed, with its recovery codes. Your password alone signs you in.",
    "deleted": "Your account is gone, with all that belonged to it.",
    "mail-sent": "A mail is on its way. It may take a minute or two.",
    "passkey-added": "Your passkey is there. From now on it signs you in.",
    "passkey-removed": "That passkey was removed. It signs nobody in any more.",
    "password-changed": "Your password was changed, and every other session was ended.",
    "password-reset": "Your new password is set, and everybody was signed out. Sign in with it.",
    "registered": "Welcome! A mail is on its way to you: please confirm your e-mail address by it.",
    "reset-sent": "If an account has that address, a mail is on its way to it. The link in it works for 10 minutes.",
    "saved": "Saved.",
    "session-ended": "That session has ended.",
    "sessions-ended": "All other sessions have ended.",
    "token-ended": "That token has ended: it fails from now on.",
    "sign-in-again": "That took too long. Please sign in again.",
    "signed-out": "You are signed out.",
}
