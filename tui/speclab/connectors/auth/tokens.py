"""Tokens as they are kept between runs: one file each, for this user's eyes only, written by one process at a time.

They are kept in the user's state directory and not in the workspace: a login is a person's, a workspace is shared and
copied, and two workspaces that held the same refresh token would each rotate it away from the other.
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
"""Seconds between two tries for a lock that another process has, for as long as it asks for a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; times are POSIX seconds, `expires_at` None where the server did not tell."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    issued_at: float
    expires_at: float | None

    def good(self, now: float, margin: float) -> bool:
        """Whether it is good for `margin` seconds more; of a short-lived token, for half its life."""
        if self.expires_at is None:
            return True
        return now < self.expires_at - min(margin, (self.expires_at - self.issued_at) / 2)


class TokenFile:
    """Where the token for one login is kept."""

    def __init__(self, directory: Path, auth: OAuth2Auth) -> None:
        self._directory = directory
        self._about = {"token_url": auth.token_url, "client_id": auth.client_id, "account": auth.account}
        self.path = directory / f"{_name(auth)}.json"

    @asynccontextmanager
    async def held(self, clock: Clock) -> AsyncIterator[None]:
        """Be the only one, in any process, that renews this token. Raises `OSError`."""
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
        """The token that is kept; None where there is none, or none that can be read."""
        try:
            kept = json.loads(self.path.read_bytes())
            lifetime = kept["expires_at"] and float(kept["expires_at"])
            refresh = kept["refresh_token"] and str(kept["refresh_token"])
            return Token(str(kept["access_token"]), refresh, float(kept["issued_at"]), lifetime)
        except (OSError, ValueError, TypeError, KeyError):  # what is broken is asked for anew
            return None

    def write(self, token: Token) -> None:
        """Keep `token` in the place of the one before, whole or not at all. Raises `OSError`."""
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
    """Where this user's tokens are kept."""
    from platformdirs import user_state_path

    return user_state_path("speclab", appauthor=False) / "tokens"


def _name(auth: OAuth2Auth) -> str:
    """The name of the file: what the token was asked for with, so that a spec that asks otherwise has its own.

    The client's secret belongs to it only where it alone makes the token: a login outlives a new secret.
    """
    told = [auth.flow, auth.token_url, auth.client_id, auth.scope, auth.audience, sorted(auth.params.items())]
    told += [auth.account, auth.refresh_token]
    if auth.flow == "client_credentials":
        told.append(auth.client_secret)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
