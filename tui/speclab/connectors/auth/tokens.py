"""Token cache: one file per login, readable by this user only, written by one process at a time.

The files are in the user's state directory and not in the workspace: a login belongs to a person, a workspace is shared
and copied, and two workspaces with the same refresh token would invalidate each other's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from speclab.core.atomic_file import replace_file
from speclab.core.clock import Clock
from speclab.core.file_lock import try_lock
from speclab.spec.auth import OAuth2Auth

_LOOK_AGAIN: Final = 0.05
"""Seconds between attempts to take the lock of a process that is requesting a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; times are POSIX seconds, and `expires_at` is None if the server sent no lifetime."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    issued_at: float
    expires_at: float | None

    def good(self, now: float, margin: float) -> bool:
        """Whether the token is valid for `margin` more seconds; for a short-lived token, for half its lifetime."""
        if self.expires_at is None:
            return True
        return now < self.expires_at - min(margin, (self.expires_at - self.issued_at) / 2)


class TokenFile:
    """The token file of one login."""

    def __init__(self, directory: Path, auth: OAuth2Auth) -> None:
        self._directory = directory
        self._about = {"token_url": auth.token_url, "client_id": auth.client_id, "account": auth.account}
        self.path = directory / f"{_name(auth)}.json"

    @asynccontextmanager
    async def held(self, clock: Clock) -> AsyncIterator[None]:
        """Hold the lock on this token for the block: one process at a time refreshes it. Raise `OSError`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            while not try_lock(descriptor):
                await clock.sleep(_LOOK_AGAIN)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Token | None:
        """Return the saved token; None if there is none or it cannot be read."""
        try:
            kept = json.loads(self.path.read_bytes())
            lifetime = kept["expires_at"] and float(kept["expires_at"])
            refresh = kept["refresh_token"] and str(kept["refresh_token"])
            return Token(str(kept["access_token"]), refresh, float(kept["issued_at"]), lifetime)
        except (OSError, ValueError, TypeError, KeyError):  # a damaged file is replaced
            return None

    def write(self, token: Token) -> None:
        """Save `token` atomically. Raise `OSError`."""
        text = json.dumps(
            {
                **self._about,
                "access_token": token.access,
                "refresh_token": token.refresh,
                "issued_at": token.issued_at,
                "expires_at": token.expires_at,
            }
        )
        replace_file(self.path, text.encode(), mode=0o600)


def get_token_directory() -> Path:
    """Return the directory of this user's tokens."""
    from platformdirs import user_state_path

    return user_state_path("speclab", appauthor=False) / "tokens"


def _name(auth: OAuth2Auth) -> str:
    """Return the file name: a hash of the token request, so that a spec with other settings has its own token.

    The client secret is included only for client credentials: a login stays valid after a new secret.
    """
    identity = [auth.flow, auth.token_url, auth.client_id, auth.scope, auth.audience, sorted(auth.params.items())]
    identity += [auth.account, auth.refresh_token]
    if auth.flow == "client_credentials":
        identity.append(auth.client_secret)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
