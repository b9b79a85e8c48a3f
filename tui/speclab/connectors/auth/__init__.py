"""Credentials for requests: the Auth settings of a spec as `auth_flow` implementations for httpx."""

from __future__ import annotations

from speclab.connectors.api import RuntimeContext
from speclab.connectors.auth.credentials import (
    AwsSignature,
    Credentials,
    HeaderAuth,
    HmacSignature,
    ParamAuth,
    build_basic_auth,
)
from speclab.connectors.auth.oauth2 import OAuth2
from speclab.connectors.secrets.redaction import Redactor
from speclab.spec.auth import ApiKeyAuth, Auth, AwsAuth, BasicAuth, BearerAuth, HmacAuth, OAuth2Auth

__all__ = ["Credentials", "build_basic_auth", "http_auth"]


def build_credentials(auth: Auth, redactor: Redactor, context: RuntimeContext) -> Credentials:
    """Return the credentials for `auth` (references resolved); derived secrets are added to the `redactor`.

    Raise `SpecError` for a secret that a header cannot contain.
    """
    match auth:
        case ApiKeyAuth(header=str(header)):
            return HeaderAuth(header, auth.prefix + auth.key)
        case ApiKeyAuth(param=str(param)):
            return ParamAuth(param, auth.prefix + auth.key)
        case BasicAuth():
            return build_basic_auth(auth.username, auth.password, redactor)
        case BearerAuth():
            return HeaderAuth("Authorization", f"Bearer {auth.token}")
        case OAuth2Auth():
            return OAuth2(auth, redactor, context)
        case HmacAuth():
            return HmacSignature(auth, context.clock)
        case AwsAuth():
            return AwsSignature(auth, context.clock)
        case _:
            return Credentials()
