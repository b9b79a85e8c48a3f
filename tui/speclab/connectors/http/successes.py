"""Whether an answer of 2xx is a success: by the spec's `ok`, else unless its body says that it is none.

There are APIs that answer everything with 200 and put what went wrong into the body. To count that as written would
lose the record in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from speclab.connectors.http.answers import WrongBody, look, message_in, parsed, path
from speclab.connectors.http.client import Exchange, status_line
from speclab.errors import SpecError
from speclab.jsonvalue import Json
from speclab.paths import FieldPath
from speclab.spec.systems.http_write import HttpWrite

_ERRORS: Final = ("error", "errors")
_FLAGS: Final = ("ok", "success")


class Successes:
    """Judges answers as `ok` and `message` of an HTTP target say."""

    def __init__(self, write: HttpWrite) -> None:
        """Raises `SpecError` for an expression or a path that is none."""
        self.ok = None if write.ok is None else judgement(write.ok)
        self._message = None if write.message is None else from_item(write.message)

    def denied(self, exchange: Exchange, sent: Json) -> str | None:
        """What the answer to `sent` says is wrong; None where all is well.

        Raises `WrongBody` where `ok` cannot tell.
        """
        if self.ok is not None:
            body = parsed(exchange)
            return None if self.ok(body) else self.message(exchange, body)
        if b'"err' not in exchange.body and b"false" not in exchange.body:  # by far the most
            return None
        body = parsed(exchange)
        own = sent if isinstance(sent, dict) else {}  # a target that gives the record back says nothing by its fields
        if not tells_of_failure(body, own):
            return None
        return f"{self.message(exchange, body)} (if that is no error, say with `ok` what is a success)"

    def message(self, exchange: Exchange, body: Json) -> str:
        """What `body` says is wrong."""
        said = message_in(look(body, self._message) if self._message is not None else body)
        return f"{status_line(exchange)}: {said or 'the target says that it did not do it'}"

    def of_entry(self, entry: Json) -> str | None:
        """What one entry of a list of results says is wrong."""
        return message_in(look(entry, self._message)) if self._message is not None else message_in(entry)


def tells_of_failure(body: Json, own: Collection[str] = ()) -> bool:
    """Whether the body of a success says that it is none; names in `own` say nothing."""
    if not isinstance(body, dict):
        return False
    if any(body.get(name) for name in _ERRORS if name not in own):
        return True
    return any(body.get(name) is False for name in _FLAGS if name not in own)


def judgement(text: str) -> Callable[[Json], bool]:
    """What `ok` says of an entry. Calling it raises `WrongBody` where the expression cannot be evaluated."""
    from speclab.mapping.cel import EvaluationError, Expression  # the engine is loaded for those who use it
    from speclab.mapping.cel_check import ExpressionSyntaxError

    try:
        expression = Expression(text, ["item"])
    except ExpressionSyntaxError as error:
        raise SpecError(f"write.ok: {error}") from None

    def ok(entry: Json) -> bool:
        try:
            return expression.evaluate({"item": entry}) is True
        except EvaluationError as error:
            raise WrongBody(f"write.ok: {error}") from None

    return ok


def from_item(text: str) -> FieldPath:
    """The path of a message in an entry, written from `item`."""
    where = path(text, "write.message")
    if where.parts[0] != "item" or len(where.parts) == 1:
        raise SpecError(f"write.message: expected a path that starts with `item.`, such as item.error, not {text!r}")
    return FieldPath(where.parts[1:])
