"""The action table: what to do with a failed write. First match wins, the spec's Error Types before the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from speclab.connectors.base import Refusal
from speclab.outcome import ErrorClass
from speclab.spec.integration import Action, ErrorRule


def _status(low: int, high: int, action: Action) -> ErrorRule:
    return ErrorRule(low=low, high=high, error_class=None, action=action, line=0)


def _class(error_class: ErrorClass, action: Action) -> ErrorRule:
    return ErrorRule(low=None, high=None, error_class=error_class, action=action, line=0)


DEFAULTS: Final = (
    _status(401, 401, Action.REFRESH),
    _status(408, 408, Action.RETRY),
    _status(429, 429, Action.WAIT),
    _status(400, 499, Action.DEAD_LETTER),
    _status(500, 599, Action.RETRY),
    _class(ErrorClass.RATE_LIMIT, Action.WAIT),
    _class(ErrorClass.UNAUTHORIZED, Action.REFRESH),
    _class(ErrorClass.NETWORK, Action.RETRY),
    _class(ErrorClass.TIMEOUT, Action.RETRY),
    _class(ErrorClass.SERVER, Action.RETRY),
)
"""What holds where a spec says nothing; what matches none of these will not heal by waiting."""


_NOT_APPLIED: Final = frozenset({501, 503, 505, 507, 511})
"""Server errors of a request that was not applied: not implemented, unavailable, HTTP version, storage, login."""


class ActionTable:
    """A spec's Error Types over the defaults, for a target that is `idempotent` or is not."""

    def __init__(self, rules: Sequence[ErrorRule], *, idempotent: bool) -> None:
        self._rules = (*rules, *DEFAULTS)
        self._idempotent = idempotent

    def action(self, refusal: Refusal) -> Action:
        """What to do about `refusal`."""
        for rule in self._rules:
            if _matches(rule, refusal):
                return rule.action
        return Action.DEAD_LETTER

    def unknown(self, refusal: Refusal) -> bool:
        """Whether nobody can tell what became of the record, so that it must never be sent again by itself."""
        return in_doubt(refusal) and not self._idempotent


def in_doubt(refusal: Refusal) -> bool:
    """Whether the target may have applied the write although it did not confirm it.

    True if the request was sent and no response arrived, if the response cannot be understood, and for server errors
    (RFC 9110 section 15.6): a server can fail after it applied the write, and a gateway (502, 504) does not know.
    """
    if not refusal.sent:
        return False
    if refusal.error_class is ErrorClass.BAD_ANSWER or _is_server_error(refusal):
        return True
    return refusal.status is None and refusal.error_class in (ErrorClass.NETWORK, ErrorClass.TIMEOUT)


def untouched(refusal: Refusal) -> bool:
    """Whether the target certainly has what it had before: it was not asked, or refused before applying anything.

    True for 4xx except 408, and for the server errors in `_NOT_APPLIED`.
    """
    if not refusal.sent or refusal.status is None:
        return not refusal.sent
    return (400 <= refusal.status < 500 and refusal.status != 408) or refusal.status in _NOT_APPLIED


def _is_server_error(refusal: Refusal) -> bool:
    """Whether the status is a server error that may come after the write was applied."""
    return refusal.status is not None and 500 <= refusal.status < 600 and refusal.status not in _NOT_APPLIED


def _matches(rule: ErrorRule, refusal: Refusal) -> bool:
    if rule.error_class is not None:
        return rule.error_class is refusal.error_class
    if refusal.status is None or rule.low is None or rule.high is None:
        return False
    return rule.low <= refusal.status <= rule.high
