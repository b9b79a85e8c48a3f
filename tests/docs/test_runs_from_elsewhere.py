"""The snippets on runs from elsewhere, against a real `speclab up --listen`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from tests.app.conftest import screen_of
from tests.docs.test_docs import ROOT, blocks
from tests.spec.test_settings_models import system
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp
from speclab.cli.group import speclab
from speclab.core.outcome import FailureState, RunState
from speclab.runlog import RunLogReader, RunRow
from speclab.service.http_api import build_ping_token

PAGE = ROOT / "docs/how-to/report-a-script.md"
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def url(workspace: Path) -> Iterator[str]:
    """The URL of `speclab up` in the workspace."""
    output = workspace / "up.txt"
    command = [
        sys.executable,
        "-P",
        "-m",
        "speclab",
        "up",
        "--listen",
        "127.0.0.1:0",
        "--token",
        "${env:SPECLAB_TOKEN}",
    ]
    with (
        output.open("w") as file,
        subprocess.Popen(command, cwd=workspace, env=os.environ | {"SPECLAB_TOKEN": TOKEN}, stderr=file) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while (found := re.search(r"listening on (\S+)\n", output.read_text())) is None:
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.05)
            yield found[1]
        finally:
            process.terminate()
    assert process.returncode == 0


def run_script(script: str, url: str, directory: Path) -> None:
    ping = f"{url}/ping/{build_ping_token('nightly-export', TOKEN)}"
    env = os.environ | {"SPECLAB_URL": url, "SPECLAB_TOKEN": TOKEN, "SPECLAB_PING": ping, "NO_PROXY": "*"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=directory, env=env, check=True, timeout=60)


def get_runs(workspace: Path) -> list[RunRow]:
    with RunLogReader.open(workspace / ".speclab/runlog.db") as reader:
        return reader.runs(limit=100)


def test_curl_alone_reports_runs_that_status_and_the_monitor_show(url: str, workspace: Path) -> None:
    several, whole, pings = blocks(PAGE, "sh")
    for script, expected in (
        (several, (RunState.PARTIAL, "cron", 120, 119)),
        (whole, (RunState.SUCCEEDED, "report", 120, 120)),
        (pings, (RunState.SUCCEEDED, "ping", 0, 0)),
    ):
        run_script(script, url, workspace)
        row = get_runs(workspace)[0]
        assert (row.state, row.trigger, row.read, row.written) == expected
    with RunLogReader.open(workspace / ".speclab/runlog.db") as reader:
        (failure,) = reader.failures()
        assert (failure.key, failure.state) == ("c_8841", FailureState.DEAD)
        assert "120 rows" in [event.message for event in reader.events()]
    shown = CliRunner().invoke(speclab, ["status", "--json", "--runlog", str(workspace / ".speclab/runlog.db")])
    status = json.loads(shown.stdout)
    assert (status["spec_id"], status["condition"], status["dead"]) == ("nightly-export", "attention", 1)
    assert status["success_rate"] == 239 / 240


async def test_monitor_shows_a_run_that_curl_reported(url: str, workspace: Path) -> None:
    run_script(blocks(PAGE, "sh")[0].replace("nightly-export", "curl-only"), url, workspace)
    app = SpeclabApp(workspace, view="monitor")
    async with app.run_test(size=(120, 40)) as pilot:
        try:
            await asyncio.wait_for(_see(pilot, "curl-only        99.1 %", "failures of curl-only ── 1 record"), 30)
        except TimeoutError:
            raise AssertionError(screen_of(pilot)) from None


async def _see(pilot: Pilot[None], *texts: str) -> None:
    while not all(text in screen_of(pilot) for text in texts):
        await pilot.pause(0.05)


def test_server_of_a_running_scheduler_is_ready_and_scraped(url: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        text = client.get("/metrics").text
    assert "speclab_heartbeat_timestamp_seconds" in {family.name for family in text_string_to_metric_families(text)}


def test_airflow_callbacks_report_the_state_of_a_task(
    url: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECLAB_PING", f"{url}/ping/{build_ping_token('dag', TOKEN)}")
    (script,) = [block for block in blocks(PAGE, "python") if "callback" in block]
    names: dict[str, dict[str, object]] = {}
    exec(compile(script, str(PAGE), "exec"), names)
    callbacks = names["default_args"]
    for name, context in (
        ("on_execute_callback", {}),
        ("on_failure_callback", {"exception": ValueError("no table")}),
        ("on_success_callback", {"exception": None}),
    ):
        callback = callbacks[name]
        assert callable(callback)
        callback(context)
    succeeded, failed = get_runs(workspace)[:2]
    assert (failed.state, failed.error) == (RunState.FAILED, "fail was reported: no table")
    assert succeeded.state is RunState.SUCCEEDED


@pytest.mark.parametrize(("status", "state"), [("0", RunState.SUCCEEDED), ("fail", RunState.FAILED)])
def test_github_actions_report_the_status_of_a_job(url: str, workspace: Path, status: str, state: RunState) -> None:
    (block,) = [block for block in blocks(PAGE, "yaml") if "steps" in block]
    export = workspace / "export.sh"
    export.write_text("#!/bin/sh\necho exported\n")
    export.chmod(0o755)
    for step in yaml.safe_load(block)["jobs"]["export"]["steps"]:
        run_script(re.sub(r"\${{.*?}}", status, step["run"]), url, workspace)
    assert get_runs(workspace)[0].state is state


def test_settings_of_an_external_system_are_valid() -> None:
    (block,) = [block for block in blocks(PAGE, "yaml") if "connector" in block]
    assert system(block)[1] == []


def test_bodies_for_zapier_and_make_are_whole_runs(url: str, workspace: Path) -> None:
    for body in blocks(PAGE, "json"):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        assert httpx.post(f"{url}/runs", content=body, headers=headers, trust_env=False).status_code == 201
    failed, succeeded = get_runs(workspace)[:2]
    assert (failed.spec_id, failed.state, failed.error) == ("leads-to-crm", RunState.FAILED, "CRM: quota exceeded")
    assert (succeeded.state, succeeded.written) == (RunState.SUCCEEDED, 1)
