"""Signs in the body of a success status that it is a failure: one table of the names in use, and of what they mean.

Many APIs respond 200 to everything and put the failure into the body. Names are compared without case, `_` and `-`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from speclab.jsonvalue import Json

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
