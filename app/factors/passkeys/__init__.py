"""Passkeys: sign-ins by a key that stays on a device, or in its maker's cloud (WebAuthn)."""
