from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from speclab.connectors.http.ratelimit import Quota, quota, retry_after

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
    assert retry_after(httpx.Headers(headers), NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"RateLimit": '"default";r=50;t=30'}, Quota(50, 30)),
        ({"RateLimit": "limit=100, remaining=50, reset=30"}, Quota(50, 30)),
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, Quota(0, 7)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "60"}, Quota(3, 60)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp()) + 60)}, Quota(3, 60)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp() * 1000) + 60_000)}, Quota(3, 60)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(NOW.timestamp()) - 60)}, Quota(3, 0)),
        ({"X-RateLimit-Remaining": "many", "X-RateLimit-Reset": "60"}, None),
        ({"X-RateLimit-Remaining": "3"}, None),
        ({"RateLimit": "r=1"}, None),
        ({}, None),
    ],
)
def test_a_quota_is_found_in_every_form(headers: dict[str, str], found: Quota | None) -> None:
    assert quota(httpx.Headers(headers), NOW) == found
