from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.connectors.http.rate_limit_headers import (
    RateQuota,
    get_server_time,
    read_policies,
    read_quota,
    read_retry_after,
)
from speclab.spec.settings_types import Rate

DAY = 86400.0
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:00 GMT"}, 60),
        ({"Retry-After": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:00 GMT", "Date": "Tue, 24 Nov 2026 12:00:50 GMT"}, 10),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(httpx.Headers(headers), NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"RateLimit": '"default";r=50;t=30'}, RateQuota(50, 30)),
        ({"RateLimit": "limit=100, remaining=50, reset=30"}, RateQuota(50, 30)),
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, RateQuota(0, 7)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "60"}, RateQuota(3, 60)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp()) + 60)}, RateQuota(3, 60)),
        (
            {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp() * 1000) + 60_000)},
            RateQuota(3, 60),
        ),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp()) - 60)}, RateQuota(3, 0)),
        ({"X-RateLimit-Remaining": "many", "X-RateLimit-Reset": "60"}, None),
        ({"X-RateLimit-Remaining": "3"}, None),
        ({"RateLimit": "r=1"}, None),
        ({}, None),
    ],
)
def test_quota_is_parsed_in_every_format(headers: dict[str, str], found: RateQuota | None) -> None:
    assert read_quota(httpx.Headers(headers), NOW) == found


@pytest.mark.parametrize(
    ("limit", "policy", "found"),
    [
        ('"burst";r=0;t=5, "daily";r=900;t=40000', "", RateQuota(0, 5)),
        ('"burst";r=0;t=5, "daily";r=0;t=40000', "", RateQuota(0, 40000)),
        ('"burst";r=9;t=5, "daily";r=3;t=40000;pk=:dXNlcg==:', "", RateQuota(3, 40000)),
        ("default;r=50;t=30", "", RateQuota(50, 30)),
        ('"permin";r=7', '"permin";q=50;w=60,"perhr";q=1000;w=3600', RateQuota(7, 60)),
        ('"permin";r=7', "", None),
        ('"a,b;r=1";r=2;t=3', "", RateQuota(2, 3)),
        ('"bytes";r=100;t=9, "calls";r=4;t=9', '"bytes";q=9;w=9;qu="content-bytes", "calls";q=9;w=9', RateQuota(4, 9)),
        ('"bytes";r=0;t=9, "calls";r=4;t=9', '"bytes";q=9;w=9;qu="content-bytes", "calls";q=9;w=9', RateQuota(0, 9)),
        ('"bytes";r=100;t=9', '"bytes";q=1000;w=60;qu="content-bytes"', None),
        ('"x";r=-1;t=5', "", None),
        (";;;,", "", None),
    ],
)
def test_first_exhausted_quota_is_used(limit: str, policy: str, found: RateQuota | None) -> None:
    assert read_quota(httpx.Headers({"RateLimit": limit, "RateLimit-Policy": policy}), NOW) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"permin";q=50;w=60,"perhr";q=1000;w=3600;pk=:cHs=:', [Rate(50, 60), Rate(1000, 3600)]),
        ("10;w=1, 50;w=60", [Rate(10, 1), Rate(50, 60)]),
        ('"bytes";q=1000;w=60;qu="content-bytes"', []),
        ('"open";q=5', []),
        ('"none";q=0;w=60, "never";q=5;w=0', []),
        ("", []),
    ],
)
def test_policies_are_rates(text: str, found: list[Rate]) -> None:
    assert read_policies(httpx.Headers({"RateLimit-Policy": text})) == found


@given(st.text(max_size=60) | st.from_regex(r'"?[a-z]"?(;(r|t|q|w)=[0-9]{1,30}){1,4}(, b;r=0;t=1)?', fullmatch=True))
def test_any_header_is_parsed(text: str) -> None:
    value = text.encode("utf-8")
    names = ("RateLimit", "RateLimit-Policy", "Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    for headers in [httpx.Headers([(name.encode(), value) for name in some]) for some in (names, names[1:])]:
        found = read_quota(headers, NOW)
        assert found is None or 0 <= found.reset <= DAY
        assert all(rate.count and rate.seconds for rate in read_policies(headers))
        assert 0 <= (read_retry_after(headers, NOW) or 0) <= DAY


@pytest.mark.parametrize(
    "date",
    [
        "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:00:00 +99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 -2300",
    ],
)
def test_invalid_date_is_ignored(date: str) -> None:
    assert read_retry_after(httpx.Headers({"Retry-After": date}), NOW) is None
    assert get_server_time(httpx.Headers({"Date": date}), NOW) == NOW


def test_wait_longer_than_a_day_is_cut_to_a_day() -> None:
    assert read_retry_after(httpx.Headers({"Retry-After": "9" * 5000}), NOW) == DAY
    assert read_quota(httpx.Headers({"RateLimit": f'"a";r=0;t={"9" * 15}'}), NOW) == RateQuota(0, DAY)
    headers = httpx.Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 300})
    assert read_quota(headers, NOW) == RateQuota(0, DAY)


def test_other_header_names_are_supported() -> None:
    headers = httpx.Headers({"X-Rate-Limit-Remaining": "3", "X-Rate-Limit-Reset": "60"})
    assert read_quota(headers, NOW) == RateQuota(3, 60)
