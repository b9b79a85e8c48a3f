"""Rate limits that a server reports in headers, and the weights of requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from speclab.spec.settings_types import Rate

_EPOCH: Final = 1_000_000_000  # a `reset` this large is a time, not a number of seconds
_EPOCH_MILLISECONDS: Final = 1_000_000_000_000
_LONGEST: Final = 86400.0
"""Longest wait in seconds that a server can ask for; a longer one is shortened to this."""
_DIGITS: Final = 15  # of an integer, RFC 9651 section 3.3.1
_PREFIXES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_OLD: Final = re.compile(r"\b(remaining|reset)\s*=\s*(\d{1,15})\b")
_ITEM: Final = re.compile(
    r"""(?:"(?P<name>(?:[^"\\]|\\.)*)" | (?P<token>[\w*][\w.*:/-]*))      # name; a bare number in old policies
        (?P<parameters>(?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"(?:[^"\\]|\\.)*" | :[^:]*: | [^\s;,"]+))?)*)""",
    re.VERBOSE,
)
"""One item of a list (RFC 9651), with its parameters."""
_PARAMETER: Final = re.compile(r"""([a-z*][\w.*-]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))""")


@dataclass(frozen=True, slots=True)
class RateQuota:
    """The remaining requests of a rate limit, and the seconds until it resets."""

    remaining: int
    reset: float


def read_retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Return the seconds to wait by `Retry-After` (RFC 9110 section 10.2.3: seconds or a date), or None.

    At most a day. A date is compared with the server's `Date`, if sent, because the two clocks may differ.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
        return _limit(float(text))
    moment = _parse_date(text)
    return None if moment is None else _limit((moment - get_server_time(headers, now)).total_seconds())


def get_server_time(headers: httpx.Headers, now: datetime) -> datetime:
    """Return the `Date` of a response, or `now` if it has none."""
    return _parse_date(headers.get("date", "")) or now


def read_quota(headers: httpx.Headers, now: datetime) -> RateQuota | None:
    """Return the quota that a response reports, or None; of several, the one that is used up first.

    Supports `RateLimit: "name";r=50;t=30`, with the window of `RateLimit-Policy` if `t` is missing, the older
    `RateLimit: remaining=50, reset=30` and `RateLimit-Remaining` / `RateLimit-Reset`
    (draft-ietf-httpapi-ratelimit-headers-00 to -10), and the variants with `X-`, whose reset is either a number of
    seconds or a Unix time.
    """
    found = _read_quotas(headers) if "ratelimit" in headers else _read_separate_headers(headers, now)
    return min(found, key=lambda one: (max(one.remaining, 0), -one.reset), default=None)


def read_policies(headers: httpx.Headers) -> list[Rate]:
    """Return the rates in `RateLimit-Policy` that count requests."""
    return [
        Rate(policy.count, policy.seconds)
        for policy in _parse_policies(headers).values()
        if policy.of_requests and policy.count and policy.seconds
    ]


@dataclass(frozen=True, slots=True)
class _Policy:
    count: int
    seconds: int
    of_requests: bool


def _read_quotas(headers: httpx.Headers) -> list[RateQuota]:
    text = headers["ratelimit"]
    old = dict(_OLD.findall(text))
    if "remaining" in old and "reset" in old:
        return [RateQuota(int(old["remaining"]), _limit(float(old["reset"])))]
    known = _parse_policies(headers)
    found = []
    for name, parameters in _parse_items(text):
        policy = known.get(name)
        left, reset = _parse_integer(parameters.get("r")), _parse_integer(parameters.get("t"))
        if reset is None and policy is not None:
            reset = policy.seconds
        counts = left == 0 or policy is None or policy.of_requests  # remaining bytes do not limit requests
        if left is not None and reset is not None and counts:
            found.append(RateQuota(left, _limit(reset)))
    return found


def _read_separate_headers(headers: httpx.Headers, now: datetime) -> list[RateQuota]:
    for prefix in _PREFIXES:
        remaining, reset = headers.get(f"{prefix}remaining"), headers.get(f"{prefix}reset")
        if remaining is not None and reset is not None:
            break
    else:
        return []
    try:
        seconds = float(reset)
        left = int(remaining)
    except ValueError:
        return []
    if seconds >= _EPOCH_MILLISECONDS:
        seconds /= 1000
    if seconds >= _EPOCH:
        seconds -= get_server_time(headers, now).timestamp()
    return [RateQuota(left, _limit(seconds))]


def _parse_policies(headers: httpx.Headers) -> dict[str, _Policy]:
    """Return the policies of a response by name."""
    found = {}
    for name, parameters in _parse_items(headers.get("ratelimit-policy", "")):
        count = _parse_integer(parameters.get("q", name))  # before draft -08, the item itself is the quota
        seconds = _parse_integer(parameters.get("w"))
        if count is not None and seconds is not None:
            found[name] = _Policy(count, seconds, parameters.get("qu", "requests") == "requests")
    return found


def _parse_items(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the items of a list by name, with their parameters."""
    return [
        (
            match["name"] or match["token"] or "",
            {key: quoted or bare for key, quoted, bare in _PARAMETER.findall(match["parameters"])},
        )
        for match in _ITEM.finditer(text)
    ]


def _parse_integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _limit(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST)


def _parse_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


class RequestWeights:
    """The weights of requests, by method, or by method and path prefix."""

    def __init__(self, weights: Mapping[str, int], base: str) -> None:
        """Use the `weights` of `limits` for URLs that start with `base`."""
        self._base = base
        longest_first = sorted(weights.items(), key=lambda weight: len(weight[0]), reverse=True)
        self._weights = [(*name.partition(" ")[::2], weight) for name, weight in longest_first]

    def get(self, method: str, url: str) -> int:
        """Return the weight of a request, 1 by default."""
        if not self._weights:
            return 1
        path = url.removeprefix(self._base)
        for weighted_method, prefix, weight in self._weights:
            if method == weighted_method and path.startswith(prefix):
                return weight
        return 1
