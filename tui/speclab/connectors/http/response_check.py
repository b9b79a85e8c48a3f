"""Checks of responses with a success status: failures reported in the body, and incomplete pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.connectors.http.client import Exchange, format_status_line
from speclab.connectors.http.response import UnreadableBody, find_message, get_value, parse_body, parse_path
from speclab.connectors.http.write_settings import HttpWrite
from speclab.core.errors import SpecError
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath

_NOTHING: Final = frozenset({"", "0", "00", "000", "0000", "false", "no", "none", "null", "ok", "success", "no error"})
"""Values of an error field that mean that there is no error."""
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
    """Return whether `value` reports anything: some APIs write "no error" as `{"code": 0, "message": ""}`."""
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
    """Return whether an error code means an error: neither zero nor empty nor an HTTP success."""
    number = _number(value)
    return _says_anything(value) if number is None else number != 0 and not 200 <= number < 300


def _is_failed(value: Json) -> bool:
    """Return whether a word or an HTTP status means a failure."""
    if isinstance(value, str) and not value.isdecimal():
        return value.casefold() in _FAILED or _FAILED_WORD.fullmatch(value) is not None
    return _is_http_error(value)


def _is_http_error(value: Json) -> bool:
    number = _number(value)
    return number is not None and 400 <= number < 600


def _is_count(value: Json) -> bool:
    """Return whether a count or list of failures is not empty."""
    number = _number(value)
    return number > 0 if number is not None else isinstance(value, list | dict) and bool(value)


def _number(value: Json) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,9}", value.strip(), re.ASCII) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Sign:
    """Names of fields, and the test by which their value means a failure.

    `part` is True if only some of the records sent may have failed; `writes` if it applies only to writes.
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
"""Fields at the top of a body, or in one of `WRAPPERS`, that report a failure."""
WRAPPERS: Final = frozenset({"response", "result", "meta", "status", "header", "responseheader", "head", "d"})
"""Objects that wrap the status of a whole response: `meta.code`, `status.error_code`, `responseHeader.status`."""
_OPERATION: Final = ("usererrors", "errors", "error", "success", "ok")
"""Fields of a GraphQL operation's result that report a failure, such as `data.productCreate.userErrors`."""


def find_failure_sign(body: Json, own: Collection[str] = (), *, write: bool = False) -> Sign | None:
    """Return the sign by which the body of a success reports a failure; names in `own` are ignored."""
    if not isinstance(body, dict):
        return None
    if (found := _sign_in(body, own, write=write)) is not None:
        return found
    for name, inner in body.items():
        wraps = isinstance(inner, dict) and name not in own and _normalize_name(name) in WRAPPERS
        if wraps and (found := _sign_in(inner, own, write=write)) is not None:
            return found
    data = body.get("data")
    if isinstance(data, dict) and "data" not in own:
        for result in data.values():
            if isinstance(result, dict) and len(result) < 20:
                signs = {name: value for name, value in result.items() if _normalize_name(name) in _OPERATION}
                if (found := _sign_in(signs, own, write=write)) is not None:
                    return found
    return None


def list_unknown_names(body: Json, own: Collection[str]) -> list[str]:
    """Return the names in a response that are neither known nor of the record; empty if any is."""
    names = list(body) if isinstance(body, dict) else []
    known = any(_normalize_name(name) in _KNOWN or name in own for name in names)
    return [] if known else names


def is_suspicious(body: bytes) -> bool:
    """Return whether a body may contain any of the signs: most do not, and need not be parsed."""
    return _SUSPICIOUS.search(body) is not None


_SUSPICIOUS: Final = re.compile(
    rb'"[\w-]*(?:err|fail|fault|exception|unprocess|status|result|outcome|code)[\w-]*"'
    rb'|"(?:ok|(?:is_?)?succe\w*)"\s*:\s*(?:false|0|"(?:false|0|no?|err|fail|k|f))',
    re.IGNORECASE,
)


_KNOWN: Final = frozenset(name for sign in SIGNS for name in sign.names) | {
    "code", "id", "uuid", "guid", "key", "data", "links", "href", "url", "created", "updated", "createdat", "updatedat",
}  # fmt: skip
"""Known names in a response: signs, and fields that targets add to a returned record."""


def _sign_in(body: Json, own: Collection[str], *, write: bool) -> Sign | None:
    if not isinstance(body, dict):
        return None
    values = {_normalize_name(name): value for name, value in body.items() if name not in own}
    for sign in SIGNS:
        if sign.writes and not write:
            continue
        if any(name in values and sign.means(values[name]) for name in sign.names):
            return sign
    return _CODED if "code" in values and _is_coded(values["code"], values) else None


_CODED: Final = Sign("code beside a message", ("code",), _is_code)


def _is_coded(code: Json, beside: Mapping[str, Json]) -> bool:
    """Return whether a `code` next to a message means an error: a success may be 0, 1 or 200."""
    message = next((beside[name] for name in ("message", "msg", "info", "description") if beside.get(name)), None)
    if not isinstance(message, str) or _GOOD.match(message):
        return False
    if _number(code) is None:
        return isinstance(code, str) and _BAD_CODE.search(code) is not None
    return _is_code(code)


def _normalize_name(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


_CONTENT_RANGE: Final = re.compile(r"\s*(?!bytes\b)[\w-]+[ =](\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
"""A range in a unit other than bytes, such as `items 20-29/50`: how some list APIs number a page (RFC 9110, 14.4)."""
_PLAIN_RANGE: Final = re.compile(r"\s*(\d+)-(\d+)(?:/(?:\d+|\*))?\s*", re.ASCII)
_FLAGS: Final = tuple(
    FieldPath.parse(text)
    for text in ("incomplete_results", "incompleteResults", "incomplete", "partial", "timed_out", "meta.partial")
)
"""Flags of incomplete results: GitHub search `incomplete_results`, Elasticsearch `timed_out`."""
_FAILED_SHARDS: Final = FieldPath.parse("_shards.failed")
_MOST_KEYS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why records may be missing: a sentence that starts with the request, and the exchange if it is known."""

    message: str
    request: str = ""
    response: str = ""


class SeenKeys:
    """The keys in a read of numbered pages, which distinguish a record that moved to a later page from a new record.

    In a list sorted by time of change, a changed record moves to the end, and an unread record moves onto a page that
    has been read. Bounded: `moved` is None (unknown) without a key, or with too many keys.
    """

    def __init__(self, key: Sequence[FieldPath], *, from_first: bool) -> None:
        self._key = key
        self._seen: set[int] | None = set() if key and from_first else None
        self.moved: bool | None = False if self._seen is not None else None

    def add(self, records: Sequence[Record]) -> None:
        """Add the records of a page."""
        if self._seen is None or self.moved:
            return
        keys = {hash(str([get_value(record, path) for path in self._key])) for record in records}
        if not keys.isdisjoint(self._seen):
            self.moved = True
        self._seen |= keys
        if len(self._seen) > _MOST_KEYS and not self.moved:
            self._seen = self.moved = None


def find_partial_page(exchange: Exchange, body: Json, records: Sequence[Record]) -> str | None:
    """Return why a page with status 2xx contains only a part of its records, or None."""
    if exchange.status == 206 and (problem := _range_problem(exchange, len(records))):
        return problem
    for flag in _FLAGS:
        if get_value(body, flag) is True:
            return f"`{flag}` is true"
    failed = get_value(body, _FAILED_SHARDS)
    if isinstance(failed, int) and failed > 0:
        return f"`{_FAILED_SHARDS}` is {failed}"
    return None


def _range_problem(exchange: Exchange, count: int) -> str | None:
    """Return why a 206 is not a page: its headers have no range of records, or one of another length."""
    stated = exchange.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(stated) or _PLAIN_RANGE.fullmatch(stated)
    if found is None:
        return "it is partial content without a `Content-Range` header"
    if int(found[2]) - int(found[1]) + 1 != count:
        return f"`Content-Range` is {stated!r}, but there are {count} records"
    return None


_WEB_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_WRITTEN: Final = re.compile(r"[1-5]\d\d(?!\d)", re.ASCII)
_STATUS: Final = FieldPath(("status",))


@dataclass(frozen=True, slots=True)
class RejectedResponse:
    """A failure that a response with a success status reports; not `whole` if only some records may have failed."""

    message: str
    whole: bool = True


class ResponseCheck:
    """Checks responses by `ok` and `message` of an HTTP target."""

    def __init__(self, write: HttpWrite) -> None:
        """Raises `SpecError` for an invalid expression or path."""
        self.ok = None if write.ok is None else compile_success_check(write.ok)
        self._message = None if write.message is None else parse_item_path(write.message, "write.message")
        self.status = _STATUS if write.status is None else parse_item_path(write.status, "write.status")

    def find_rejection(self, exchange: Exchange, sent: Json) -> RejectedResponse | None:
        """Return what the response to `sent`, a record or a batch, reports as failed, or None.

        Raises `UnreadableBody` if `ok` cannot be evaluated, and for a web page.
        """
        if self.ok is not None:
            body = parse_body(exchange)
            return None if self.ok(body) else RejectedResponse(self._describe(exchange, body))
        if _WEB_PAGE.match(exchange.body):
            reason = (
                "the response is a web page; check `base_url`, or set `ok` to an expression that is true of a success"
            )
            raise UnreadableBody(f"{format_status_line(exchange)}: {reason}")
        if not is_suspicious(exchange.body):
            return None
        body = parse_body(exchange)
        # The fields of a returned record do not report failures.
        records = sent if isinstance(sent, list) else [sent]
        own = {name for record in records if isinstance(record, dict) for name in record}
        parts = _find_results(body) if isinstance(sent, list) else [body]
        wrong, sign = next(((part, sign) for part in parts if (sign := _find_write_sign(part, own))), (None, None))
        if sign is None:
            return None
        hint = "if this is not an error, set `ok` to an expression that is true of a success"
        message = f"{self._describe(exchange, wrong)} ({hint})"
        several = isinstance(sent, list) and len(sent) > 1
        return RejectedResponse(message, whole=not (several and (sign.part or wrong is not body)))

    def describe_unclear(self, exchange: Exchange, sent: Record) -> str | None:
        """Return why a 200 may not mean success; None if it clearly does, or if `ok` is set."""
        if self.ok is not None or exchange.status != 200:
            return None
        names = list_unknown_names(parse_body(exchange), sent)
        if not names:
            return None
        shown = ", ".join(f"`{name}`" for name in names[:5])
        return (
            f"the response has {shown}, and nothing in it says whether the record was written; set `ok` to an "
            "expression that is true of a success"
        )

    def _describe(self, exchange: Exchange, body: Json) -> str:
        said = self.find_message(body)
        return f"{format_status_line(exchange)}: {said or 'the target reports a failure without a message'}"

    def unwrap(self, entry: Json) -> Json:
        """Return the result in an entry that wraps it in the name of its action: `{index: {...}}` of Elasticsearch."""
        if self.ok is None and isinstance(entry, dict) and len(entry) == 1:
            ((name, inner),) = entry.items()
            if isinstance(inner, dict) and name not in ("error", "errors"):
                return inner
        return entry

    def is_success(self, entry: Json) -> bool:
        """Return whether an entry of a list of results is a success: by `ok`, its status, or the absence of errors.

        Raises `UnreadableBody` if `ok` cannot be evaluated.
        """
        if self.ok is not None:
            return self.ok(entry)
        status = self.get_status(entry)
        return status < 300 if status is not None else _find_write_sign(entry) is None

    def get_status(self, entry: Json) -> int | None:
        """Return the HTTP status in an entry, from a number or a text that starts with one."""
        status = get_value(entry, self.status)
        if isinstance(status, str) and (match := _WRITTEN.match(status)):
            return int(match[0])
        return status if isinstance(status, int) and not isinstance(status, bool) else None

    def find_message(self, entry: Json) -> str | None:
        """Return the error message in an entry."""
        return find_message(get_value(entry, self._message)) if self._message is not None else find_message(entry)


def _find_results(body: Json) -> Iterator[Json]:
    """Yield the body of a response to a batch, and the entries that may be results."""
    yield body
    for inner in body.values() if isinstance(body, dict) else [body]:
        if isinstance(inner, list):
            yield from inner


def _find_write_sign(body: Json, own: Collection[str] = ()) -> Sign | None:
    return find_failure_sign(body, own, write=True)


def compile_success_check(text: str, setting: str = "write.ok") -> Callable[[Json], bool]:
    """Compile the CEL of `setting` to a function that tests a body or an entry.

    The function raises `UnreadableBody` if the expression cannot be evaluated.
    """
    from speclab.mapping.cel import CelExpression, EvaluationError  # imports the engine only if it is used
    from speclab.mapping.cel.functions import ExpressionSyntaxError

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


def parse_item_path(text: str, setting: str) -> FieldPath:
    """Parse the path of a setting that starts with `item`."""
    where = parse_path(text, setting)
    if where.parts[0] != "item" or len(where.parts) == 1:
        raise SpecError(f"{setting}: expected a path that starts with `item.`, such as item.error, not {text!r}")
    return FieldPath(where.parts[1:])
