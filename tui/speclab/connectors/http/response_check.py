"""Checks of successful responses: signs of failure in the body, and of records that are missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.http.client import Exchange, status_line
from speclab.connectors.http.response import UnreadableBody, look, message_in, parsed, path
from speclab.connectors.http.write_settings import HttpWrite
from speclab.core.errors import SpecError
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath

_NOTHING: Final = frozenset({"", "0", "00", "000", "0000", "false", "no", "none", "null", "ok", "success", "no error"})
"""Texts that mean "no error" by a name for errors."""
_FAILED: Final = frozenset({"error", "errors", "err", "fail", "failed", "failure", "ko", "nok", "exception", "fatal"})
_FAILED_WORD: Final = re.compile(
    r"(?:.*_)?(?:error|failed|failure|denied|exception|unauthorized|forbidden)|invalid_\w+|over_\w+_limit",
    re.IGNORECASE,
)
"""Status words such as `REQUEST_DENIED`, `INVALID_REQUEST` and `OVER_QUERY_LIMIT` of Google Maps."""
_BAD_CODE: Final = re.compile(
    r"err|fail|invalid|denied|unauthor|forbidden|exception|missing|duplicate|conflict|reject", re.IGNORECASE
)
_GOOD: Final = re.compile(r"\W*(?:ok|okay|success\w*|succeeded|done|created|updated|accepted)\b", re.IGNORECASE)


def _says_anything(value: Json) -> bool:
    """Whether there is anything in `value`: some write "no error" as `{"code": 0, "message": ""}`."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(_says_anything, value))
    return value.strip().casefold() not in _NOTHING if isinstance(value, str) else bool(value)


def _is_false(value: Json) -> bool:
    return (
        value in (False, 0) if not isinstance(value, str) else value.casefold() in {"false", "0", "no", "n", *_FAILED}
    )


def _is_true(value: Json) -> bool:
    return value is True or (isinstance(value, str) and value.casefold() == "true")


def _is_code(value: Json) -> bool:
    """Whether a code that only errors have is one: not zero, nothing, or an HTTP success."""
    number = _number(value)
    return _says_anything(value) if number is None else number != 0 and not 200 <= number < 300


def _is_failed(value: Json) -> bool:
    """Whether a word or an HTTP status means a failure."""
    if isinstance(value, str) and not value.isdecimal():
        return value.casefold() in _FAILED or _FAILED_WORD.fullmatch(value) is not None
    return _is_http_error(value)


def _is_http_error(value: Json) -> bool:
    number = _number(value)
    return number is not None and 400 <= number < 600


def _is_count(value: Json) -> bool:
    """Whether anything was counted or listed as failed."""
    number = _number(value)
    return number > 0 if number is not None else isinstance(value, list | dict) and bool(value)


def _number(value: Json) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,9}", value.strip(), re.ASCII) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Sign:
    """Names, and when a value by such a name means a failure.

    `part` if it may concern a part of the records sent; `writes` if it counts only in the response to a write.
    """

    systems: str
    names: tuple[str, ...]
    means: Callable[[Json], bool]
    part: bool = False
    writes: bool = False


SIGNS: Final = (
    Sign("Slack, JSend, Salesforce, Zoho", ("ok", "success", "successful", "succeeded", "issuccess"), _is_false),
    Sign("JSON-RPC, GraphQL, Slack", ("error", "exception", "failure"), _says_anything),
    Sign("GraphQL, Elasticsearch bulk", ("errors",), _says_anything, part=True),
    Sign("Apigee, SOAP gateways, QuickBooks", ("fault", "faults", "faultstring", "faultcode"), _says_anything),
    Sign("Google Maps, ArcGIS", ("errormessage", "errormsg", "errordescription", "errortext"), _says_anything),
    Sign("WeChat, DingTalk", ("errcode", "errorcode", "errno", "errornumber", "retcode", "returncode"), _is_code),
    Sign("JSend, PHP APIs, Google Maps", ("status", "result", "outcome", "resultstatus"), _is_failed),
    Sign("gateways", ("statuscode", "httpstatus", "httpstatuscode", "httpcode", "responsecode"), _is_http_error),
    Sign("common flags", ("iserror", "haserror", "haserrors", "haderrors", "failed", "isfailed"), _is_true, part=True),
    Sign("Shopify, BigQuery, Ads", ("usererrors", "inserterrors", "partialfailureerror"), _is_count, part=True),
    Sign("validation lists", ("validationerrors", "fielderrors"), _is_count, part=True),
    Sign("Kinesis, EventBridge, Mailchimp", ("failedrecordcount", "failedentrycount", "errorcount", "errorscount",
         "failedcount", "numfailed", "failed", "failures"), _is_count, part=True, writes=True),
    Sign("DynamoDB, SQS", ("unprocesseditems", "unprocessedkeys"), _is_count, part=True, writes=True),
)  # fmt: skip
"""What a name at the top of a body, or in one of `WRAPPERS`, means."""
WRAPPERS: Final = frozenset({"response", "result", "meta", "status", "header", "responseheader", "head", "d"})
"""Objects that hold the signs of a whole response: `meta.code`, `status.error_code`, `responseHeader.status`."""
_OPERATION: Final = ("usererrors", "errors", "error", "success", "ok")
"""Names that mean something in the result of a GraphQL operation, `data.productCreate.userErrors`."""


def failure_sign(body: Json, own: Collection[str] = (), *, write: bool = False) -> Sign | None:
    """The sign by which the body of a success says that it is a failure; names in `own` say nothing."""
    if not isinstance(body, dict):
        return None
    if (found := _sign_in(body, own, write=write)) is not None:
        return found
    for name, inner in body.items():
        wraps = isinstance(inner, dict) and name not in own and _plain(name) in WRAPPERS
        if wraps and (found := _sign_in(inner, own, write=write)) is not None:
            return found
    data = body.get("data")
    if isinstance(data, dict) and "data" not in own:
        for result in data.values():
            if isinstance(result, dict) and len(result) < 20:
                signs = {name: value for name, value in result.items() if _plain(name) in _OPERATION}
                if (found := _sign_in(signs, own, write=write)) is not None:
                    return found
    return None


def unknown_shape(body: Json, own: Collection[str]) -> list[str]:
    """The names in a response that has no known sign, and nothing of the record that was sent; else nothing."""
    names = list(body) if isinstance(body, dict) else []
    known = any(_plain(name) in _KNOWN or name in own for name in names)
    return [] if known else names


def is_suspicious(body: bytes) -> bool:
    """Whether a body may hold any of the signs: by far the most do not, and need not be parsed."""
    return _SUSPICIOUS.search(body) is not None


_SUSPICIOUS: Final = re.compile(
    rb'"[\w-]*(?:err|fail|fault|exception|unprocess|status|result|outcome|code)[\w-]*"'
    rb'|"(?:ok|(?:is_?)?succe\w*)"\s*:\s*(?:false|0|"(?:false|0|no?|err|fail|k|f))',
    re.IGNORECASE,
)


_KNOWN: Final = frozenset(name for sign in SIGNS for name in sign.names) | {
    "code", "id", "uuid", "guid", "key", "data", "links", "href", "url", "created", "updated", "createdat", "updatedat",
}  # fmt: skip
"""Names by which a response is known: signs, and names that a target adds to a record it returns."""


def _sign_in(body: Json, own: Collection[str], *, write: bool) -> Sign | None:
    if not isinstance(body, dict):
        return None
    values = {_plain(name): value for name, value in body.items() if name not in own}
    for sign in SIGNS:
        if sign.writes and not write:
            continue
        if any(name in values and sign.means(values[name]) for name in sign.names):
            return sign
    return _CODED if "code" in values and _is_coded(values["code"], values) else None


_CODED: Final = Sign("code beside a message", ("code",), _is_code)


def _is_coded(code: Json, beside: Mapping[str, Json]) -> bool:
    """Whether a `code` beside a message is an error's: some say 0, some 1 and some 200 where all is well."""
    said = next((beside[name] for name in ("message", "msg", "info", "description") if beside.get(name)), None)
    if not isinstance(said, str) or _GOOD.match(said):
        return False
    if _number(code) is None:
        return isinstance(code, str) and _BAD_CODE.search(code) is not None
    return _is_code(code)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


_CONTENT_RANGE: Final = re.compile(r"\s*(?!bytes\b)[\w-]+[ =](\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
"""A range in a unit other than bytes, such as `items 20-29/50`: how some list APIs number a page (RFC 9110, 14.4)."""
_PLAIN_RANGE: Final = re.compile(r"\s*(\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
_FLAGS: Final = tuple(
    FieldPath.parse(text)
    for text in ("incomplete_results", "incompleteResults", "incomplete", "partial", "timed_out", "meta.partial")
)
"""Flags that are true of a part: GitHub search `incomplete_results`, Elasticsearch `timed_out`."""
_FAILED_SHARDS: Final = FieldPath.parse("_shards.failed")
_MOST_KEYS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why records may be missing, in a sentence that starts with the request; with the exchange where it is at hand."""

    message: str
    request: str = ""
    response: str = ""


class SeenKeys:
    """The keys of a read by numbered pages, which distinguish a record that moved to a later page from a new record.

    In a list in the order of changes, a record that changes moves to the end, and an unread record takes its place on
    a page that was read. Bounded: `moved` is None (not known) without a key, or with too many of them.
    """

    def __init__(self, key: Sequence[FieldPath], *, from_first: bool) -> None:
        self._key = key
        self._seen: set[int] | None = set() if key and from_first else None
        self.moved: bool | None = False if self._seen is not None else None

    def take(self, records: Sequence[Record]) -> None:
        """Look at the records of one more page."""
        if self._seen is None or self.moved:
            return
        keys = {hash(str([look(record, path) for path in self._key])) for record in records}
        if not keys.isdisjoint(self._seen):
            self.moved = True
        self._seen |= keys
        if len(self._seen) > _MOST_KEYS and not self.moved:
            self._seen = self.moved = None


def partial_page(exchange: Exchange, body: Json, records: Sequence[Record]) -> str | None:
    """Why a page of 2xx holds only a part of its records; None where nothing says so."""
    if exchange.status == 206 and (problem := _range_problem(exchange, len(records))):
        return problem
    for flag in _FLAGS:
        if look(body, flag) is True:
            return f"`{flag}` is true"
    failed = look(body, _FAILED_SHARDS)
    if isinstance(failed, int) and failed > 0:
        return f"`{_FAILED_SHARDS}` is {failed}"
    return None


def _range_problem(exchange: Exchange, count: int) -> str | None:
    """Why 206 is not a page of a list: no range of records in the headers, or one of another length."""
    stated = exchange.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(stated) or _PLAIN_RANGE.fullmatch(stated)
    if found is None:
        return "it is partial content, and no `Content-Range` header says which part"
    if int(found[2]) - int(found[1]) + 1 != count:
        return f"`Content-Range` is {stated!r}, but there are {count} records"
    return None


_WEB_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_WRITTEN: Final = re.compile(r"[1-5]\d\d(?!\d)", re.ASCII)
_STATUS: Final = FieldPath(("status",))


@dataclass(frozen=True, slots=True)
class RejectedResponse:
    """What a success says is wrong; not `whole` if it may be only so of a part of what was sent."""

    message: str
    whole: bool = True


class ResponseCheck:
    """Judges answers as `ok` and `message` of an HTTP target say."""

    def __init__(self, write: HttpWrite) -> None:
        """Raises `SpecError` for an expression or a path that is none."""
        self.ok = None if write.ok is None else judgement(write.ok)
        self._message = None if write.message is None else from_item(write.message, "write.message")
        self.status = _STATUS if write.status is None else from_item(write.status, "write.status")

    def denied(self, exchange: Exchange, sent: Json) -> RejectedResponse | None:
        """What the answer to `sent`, a record or a batch, says is wrong; None where all is well.

        Raises `UnreadableBody` where `ok` cannot tell, and for a web page.
        """
        if self.ok is not None:
            body = parsed(exchange)
            return None if self.ok(body) else RejectedResponse(self._message_of(exchange, body))
        if _WEB_PAGE.match(exchange.body):
            said = (
                "the answer is a web page; is `base_url` that of the API? (if it is, say with `ok` what is a success)"
            )
            raise UnreadableBody(f"{status_line(exchange)}: {said}")
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
        return RejectedResponse(message, whole=not (several and (sign.part or wrong is not body)))

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

        Raises `UnreadableBody` where `ok` cannot tell.
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

    Calling it raises `UnreadableBody` where the expression cannot be evaluated.
    """
    from speclab.mapping.cel import CelExpression, EvaluationError  # the engine is loaded for those who use it
    from speclab.mapping.cel.syntax import ExpressionSyntaxError

    try:
        expression = CelExpression(text, ["item"])
    except ExpressionSyntaxError as error:
        raise SpecError(f"{setting}: {error}") from None

    def ok(entry: Json) -> bool:
        try:
            return expression.evaluate({"item": entry}) is True
        except EvaluationError as error:
            raise UnreadableBody(f"{setting}: {error}") from None

    return ok


def from_item(text: str, setting: str) -> FieldPath:
    """The path that a setting has of something in an entry, written from `item`."""
    where = path(text, setting)
    if where.parts[0] != "item" or len(where.parts) == 1:
        raise SpecError(f"{setting}: expected a path that starts with `item.`, such as item.error, not {text!r}")
    return FieldPath(where.parts[1:])
