"""An S3 that others wrote: moto's server, in a process of its own, and a bucket to look at past speclab."""

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
        """What the settings of a file in it need; the secret is in the environment variable SECRET."""
        return {"key": "ours", "secret": "${env:SECRET}", "endpoint_url": self.url}

    def at(self, key: str) -> str:
        """The URL of an object."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, body: bytes) -> None:
        """Let there be an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """What an object holds."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def keys(self) -> list[str]:
        """The objects that are there."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def ask_for_logins(self, after: int) -> None:
        """Look at the credentials of requests, once `after` of them have been let through."""
        url, text = f"{self.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, data=str(after).encode(), headers=text, method="POST")
        urllib.request.urlopen(request, timeout=20).close()


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a store, which is gone afterwards."""
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
    """An empty bucket of the store at `url`, which asks for no logins afterwards."""
    client = botocore.session.get_session().create_client(
        "s3", "us-east-1", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x"
    )
    bucket = Bucket(url, f"bucket-{next(_NUMBERS)}", client)
    client.create_bucket(Bucket=bucket.name)
    try:
        yield bucket
    finally:
        bucket.ask_for_logins(after=10**9)
        client.close()
