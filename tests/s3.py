"""A third-party S3 server (moto) in a separate process, and a bucket to inspect without speclab."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import botocore.session

from speclab.core.json import Json

SECRET = "a-secret-of-ours"
_NUMBERS = count()


@dataclass(frozen=True)
class Bucket:
    """A bucket of a store."""

    url: str
    name: str
    client: Any

    @property
    def options(self) -> dict[str, Json]:
        """Return the settings of a file in the bucket; the secret is in the environment variable SECRET."""
        return {"key": "ours", "secret": "${env:SECRET}", "endpoint_url": self.url}

    def at(self, key: str) -> str:
        """Return the URL of an object."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Return the content of an object."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def require_credentials(self, after: int) -> None:
        """Check the credentials of requests, after the first `after` requests."""
        url, text = f"{self.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, data=str(after).encode(), headers=text, method="POST")
        urllib.request.urlopen(request, timeout=20).close()


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, "moto does not start"
                    assert time.monotonic() < deadline, "moto does not answer"
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()


@contextmanager
def new_bucket(url: str) -> Iterator[Bucket]:
    """Create an empty bucket in the store at `url`, which then checks no credentials."""
    client = botocore.session.get_session().create_client(
        "s3", "us-east-1", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x"
    )
    bucket = Bucket(url, f"bucket-{next(_NUMBERS)}", client)
    client.create_bucket(Bucket=bucket.name)
    try:
        yield bucket
    finally:
        bucket.require_credentials(after=10**9)
        client.close()
