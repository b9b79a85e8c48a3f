"""Rate limits that a server reports in headers, and the weights of requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from speclab.spec.units import Rate

_EPOCH: Final = 1_000_000_000  # a `reset` this large is a time, not a number of seconds
_EPOCH_MILLISECONDS: Final = 1_000_000_000_000
_LONGEST: Final = 86400.0
"""Seconds after which a system that asks for a longer wait is asked once more: it may not have meant it."""
_DIGITS: Final = 15  # of an integer, RFC 9651 section 3.3.1
_PREFIXES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_OLD: Final = re.compile(r"\b(remaining|reset)\s*=\s*(\d{1,15})\b")
_ITEM: Final = re.compile(
    r"""(?:"(?P<name>(?:[^"\\]|\\.)*)" | (?P<token>[\w*][\w.*:/-]*))      # a name; a bare number in old policies
        (?P<parameters>(?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"(?:[^"\\]|\\.)*" | :[^:]*: | [^\s;,"]+))?)*)""",
    re.VERBOSE,
)
"""One item of a list (RFC 9651), with its parameters."""
_PARAMETER: Final = re.compile(r"""([a-z*][\w.*-]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))""")


@dataclass(frozen=True, slots=True)
class RateQuota:
    """What is left of a rate limit, and in how many seconds there will be more."""

    remaining: int
    reset: float


def read_retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds to wait by `Retry-After` (RFC 9110 section 10.2.3: seconds or a date); None where it is not said.

    At most a day. A date is measured by the server's own `Date`, where it sends one: the two clocks need not agree.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
        return _bounded(float(text))
    moment = _date(text)
    return None if moment is None else _bounded((moment - get_server_time(headers, now)).total_seconds())


def get_server_time(headers: httpx.Headers, now: datetime) -> datetime:
    """The time at the server when it answered, to the second; ours where it does not say."""
    return _date(headers.get("date", "")) or now


def read_quota(headers: httpx.Headers, now: datetime) -> RateQuota | None:
    """The quota an answer reports, or None; of several the one that is used up first.

    Knows `RateLimit: "name";r=50;t=30`, with the window of `RateLimit-Policy` for a `t` that is not given, its
    predecessors `RateLimit: remaining=50, reset=30` and `RateLimit-Remaining` / `RateLimit-Reset`
    (draft-ietf-httpapi-ratelimit-headers-00 to -10), and the forms with `X-`, whose reset is a number of seconds
    here and a Unix time there.
    """
    found = _quotas(headers) if "ratelimit" in headers else _in_headers_of_their_own(headers, now)
    return min(found, key=lambda one: (max(one.remaining, 0), -one.reset), default=None)


def read_policies(headers: httpx.Headers) -> list[Rate]:
    """The rates that `RateLimit-Policy` says a client is held to, where they are about requests."""
    return [
        Rate(policy.count, policy.seconds)
        for policy in _policies(headers).values()
        if policy.of_requests and policy.count and policy.seconds
    ]


@dataclass(frozen=True, slots=True)
class _Policy:
    count: int
    seconds: int
    of_requests: bool


def _quotas(headers: httpx.Headers) -> list[RateQuota]:
    text = headers["ratelimit"]
    old = dict(_OLD.findall(text))
    if "remaining" in old and "reset" in old:
        return [RateQuota(int(old["remaining"]), _bounded(float(old["reset"])))]
    known = _policies(headers)
    found = []
    for name, parameters in _items(text):
        policy = known.get(name)
        left, reset = _whole(parameters.get("r")), _whole(parameters.get("t"))
        if reset is None and policy is not None:
            reset = policy.seconds
        counts = left == 0 or policy is None or policy.of_requests  # bytes that are left say nothing about requests
        if left is not None and reset is not None and counts:
            found.append(RateQuota(left, _bounded(reset)))
    return found


def _in_headers_of_their_own(headers: httpx.Headers, now: datetime) -> list[RateQuota]:
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
    return [RateQuota(left, _bounded(seconds))]


def _policies(headers: httpx.Headers) -> dict[str, _Policy]:
    """The policies that an answer names, by their names."""
    found = {}
    for name, parameters in _items(headers.get("ratelimit-policy", "")):
        count = _whole(parameters.get("q", name))  # before draft -08 the quota was the item itself
        seconds = _whole(parameters.get("w"))
        if count is not None and seconds is not None:
            found[name] = _Policy(count, seconds, parameters.get("qu", "requests") == "requests")
    return found


def _items(text: str) -> list[tuple[str, dict[str, str]]]:
    """The items of a list, by name, with their parameters."""
    return [
        (
            match["name"] or match["token"] or "",
            {key: quoted or bare for key, quoted, bare in _PARAMETER.findall(match["parameters"])},
        )
        for match in _ITEM.finditer(text)
    ]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


class RequestWeights:
    """The weights of one system's requests, by method, or by method and the beginning of the path."""

    def __init__(self, weights: Mapping[str, int], base: str) -> None:
        """`weights` as `limits` has them, for URLs that start with `base`."""
        self._base = base
        longest_first = sorted(weights.items(), key=lambda weight: len(weight[0]), reverse=True)
        self._weights = [(*name.partition(" ")[::2], weight) for name, weight in longest_first]

    def of(self, method: str, url: str) -> int:
        """The weight of a request; 1 where nothing is said of it."""
        if not self._weights:
            return 1
        path = url.removeprefix(self._base)
        for of_method, beginning, weight in self._weights:
            if method == of_method and path.startswith(beginning):
                return weight
        return 1
