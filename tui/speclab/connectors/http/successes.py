"""Whether an answer of 2xx is a success: by the spec's `ok`, else unless its body says that it is none.

There are APIs that answer everything with 200 and put what went wrong into the body, and what answers may be no API at
all but a page to log in at. To count that as written would lose the record in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from speclab.connectors.http.answers import WrongBody, look, message_in, parsed, path
from speclab.connectors.http.client import Exchange, status_line
from speclab.connectors.http.failure_signs import Sign, failure_sign, is_suspicious, unknown_shape
from speclab.errors import SpecError
from speclab.jsonvalue import Json, Record
from speclab.paths import FieldPath
from speclab.spec.systems.http_write import HttpWrite

_WEB_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_WRITTEN: Final = re.compile(r"[1-5]\d\d(?!\d)", re.ASCII)
_STATUS: Final = FieldPath(("status",))


@dataclass(frozen=True, slots=True)
class Denial:
    """What a success says is wrong; not `whole` if it may be only so of a part of what was sent."""

    message: str
    whole: bool = True


class Successes:
    """Judges answers as `ok` and `message` of an HTTP target say."""

    def __init__(self, write: HttpWrite) -> None:
        """Raises `SpecError` for an expression or a path that is none."""
        self.ok = None if write.ok is None else judgement(write.ok)
        self._message = None if write.message is None else from_item(write.message, "write.message")
        self.status = _STATUS if write.status is None else from_item(write.status, "write.status")

    def denied(self, exchange: Exchange, sent: Json) -> Denial | None:
        """What the answer to `sent`, a record or a batch, says is wrong; None where all is well.

        Raises `WrongBody` where `ok` cannot tell, and for a web page.
        """
        if self.ok is not None:
            body = parsed(exchange)
            return None if self.ok(body) else Denial(self._message_of(exchange, body))
        if _WEB_PAGE.match(exchange.body):
            said = (
                "the answer is a web page; is `base_url` that of the API? (if it is, say with `ok` what is a success)"
            )
            raise WrongBody(f"{status_line(exchange)}: {said}")
        if not is_suspicious(exchange.body):
            return None
        body = parsed(exchange)
        # A target that gives the record back says nothing by its fields.
        records = sent if isinstance(sent, list) else [sent]
        own = {name for record in records if isinstance(record, dict) for name in record}
        told = _entries(body) if isinstance(sent, list) else [body]
        wrong, sign = next(((part, sign) for part in told if (sign := _sign(part, own))), (None, None))
        if sign is None:
            return None
        message = f"{self._message_of(exchange, wrong)} (if that is no error, say with `ok` what is a success)"
        several = isinstance(sent, list) and len(sent) > 1
        return Denial(message, whole=not (several and (sign.part or wrong is not body)))

    def unclear(self, exchange: Exchange, sent: Record) -> str | None:
        """Why a 200 for a record may be no success for all that can be told; None where it is clear, or `ok` is set."""
        if self.ok is not None or exchange.status != 200:
            return None
        names = unknown_shape(parsed(exchange), sent)
        if not names:
            return None
        shown = ", ".join(f"`{name}`" for name in names[:5])
        return (
            f"the response has {shown}, and nothing in it says whether the record was written; say with `ok` what does"
        )

    def _message_of(self, exchange: Exchange, body: Json) -> str:
        said = message_in(look(body, self._message) if self._message is not None else body)
        return f"{status_line(exchange)}: {said or 'the target says that it did not do it'}"

    def unwrapped(self, entry: Json) -> Json:
        """The result in an entry that wraps it in the name of its action, as Elasticsearch does: `{index: {...}}`."""
        if self.ok is None and isinstance(entry, dict) and len(entry) == 1:
            ((name, inner),) = entry.items()
            if isinstance(inner, dict) and name not in ("error", "errors"):
                return inner
        return entry

    def takes(self, entry: Json) -> bool:
        """Whether one entry of a list of results is a success: by `ok`, else by its status, else unless it says not.

        Raises `WrongBody` where `ok` cannot tell.
        """
        if self.ok is not None:
            return self.ok(entry)
        status = self.status_of(entry)
        return status < 300 if status is not None else _sign(entry) is None

    def status_of(self, entry: Json) -> int | None:
        """The HTTP status in an entry, a number or a text that begins with one."""
        status = look(entry, self.status)
        if isinstance(status, str) and (match := _WRITTEN.match(status)):
            return int(match[0])
        return status if isinstance(status, int) and not isinstance(status, bool) else None

    def of_entry(self, entry: Json) -> str | None:
        """What an entry says is wrong."""
        return message_in(look(entry, self._message)) if self._message is not None else message_in(entry)


def _entries(body: Json) -> Iterator[Json]:
    """The answer to a batch, and what may be results in it."""
    yield body
    for inner in body.values() if isinstance(body, dict) else [body]:
        if isinstance(inner, list):
            yield from inner


def _sign(body: Json, own: Collection[str] = ()) -> Sign | None:
    return failure_sign(body, own, write=True)


def judgement(text: str, setting: str = "write.ok") -> Callable[[Json], bool]:
    """Compile the CEL of `setting` to a function that judges a body or an entry.

    Calling it raises `WrongBody` where the expression cannot be evaluated.
    """
    from speclab.mapping.cel import EvaluationError, Expression  # the engine is loaded for those who use it
    from speclab.mapping.cel_check import ExpressionSyntaxError

    try:
        expression = Expression(text, ["item"])
    except ExpressionSyntaxError as error:
        raise SpecError(f"{setting}: {error}") from None

    def ok(entry: Json) -> bool:
        try:
            return expression.evaluate({"item": entry}) is True
        except EvaluationError as error:
            raise WrongBody(f"{setting}: {error}") from None

    return ok


def from_item(text: str, setting: str) -> FieldPath:
    """The path that a setting has of something in an entry, written from `item`."""
    where = path(text, setting)
    if where.parts[0] != "item" or len(where.parts) == 1:
        raise SpecError(f"{setting}: expected a path that starts with `item.`, such as item.error, not {text!r}")
    return FieldPath(where.parts[1:])
