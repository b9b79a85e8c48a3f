"""`speclab alerts`: from a failure to a message and back, with real receivers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import Shell
from tests.receivers import http_receiver, mail_receiver

from speclab.cli.alerts import alerts
from speclab.connectors.trust import read_wanted
from speclab.core.errors import UsageError
from speclab.demo import BAD, create_workspace
from speclab.demo.servers import run_servers
from speclab.service.heartbeat import Heartbeat, write_heartbeat

NOTIFICATIONS = """\
### Error Notifications

```yaml
channels:
  ops: {webhook: "${env:OPS_URL}"}
  team: {email: {to: [team@example.org], from: speclab@example.org, smtp: "${env:SMTP_URL}"}}
on: {failed: [ops, team], dead_letters: {above: 10, to: team}}
```
"""

ONE_HOOK = """\
### Error Notifications

```yaml
channels:
  ops: {{webhook: "{url}"}}
on: {{failed: ops}}
```
"""


def notify(spec: Path, settings: str = NOTIFICATIONS) -> None:
    before, _, rest = spec.read_text("utf-8").partition("### Error Notifications\n")
    after = "\n## Monitoring & Alerting" + rest.partition("\n## Monitoring & Alerting")[2] if rest else ""
    spec.write_text(f"{before.rstrip()}\n\n{settings}{after}", "utf-8")


@dataclass
class Alerts:
    """Runs `speclab alerts` in this process."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: str, within: Shell, exit_code: int = 0) -> str:
        """Run it in the directory of a shell; return what it prints to standard error."""
        self.monkeypatch.chdir(within.directory)
        for name, value in within.env.items():
            self.monkeypatch.setenv(name, value)
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            alerts.main(args)
        printed = self.capsys.readouterr()
        assert ended.value.code == exit_code, printed
        return printed.err


@pytest.fixture
def run_alerts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alerts:
    return Alerts(monkeypatch, capsys)


def test_the_demo_breaks_and_recovers_and_both_are_received_by_mail_and_http(
    tmp_path: Path, run_alerts: Alerts
) -> None:
    with run_servers(tmp_path / "billing.db") as env, http_receiver() as ops, mail_receiver() as team:
        demo = create_workspace(tmp_path / "demo")
        notify(demo.spec)
        smtp = f"smtp://speclab:pa%24s@127.0.0.1:{team.port}"
        shell = Shell(demo.directory, {**env, "OPS_URL": f"{ops.url}/hook", "SMTP_URL": smtp})
        broken = Shell(demo.directory, {**shell.env, "CRM_TOKEN": "revoked"})
        broken("run", "crm-contacts-to-billing", exit_code=4)
        run_alerts("--once", exit_code=1, within=shell)
        run_alerts("--once", exit_code=1, within=shell)  # nothing new
        (fired,) = ops.bodies
        assert [(one["kind"], one["alert"], one["severity"]) for one in fired["alerts"]] == [
            ("firing", "Run failed", "critical")
        ]
        assert fired["subject"] == "ALERT: CRM Contacts to Billing: Run failed"
        assert "Last run: " in fired["text"]
        assert "failing()" not in fired["text"]
        assert "401" in fired["text"]
        assert "More: speclab runs crm-contacts-to-billing" in fired["text"]
        (mail,) = team.mails
        assert (mail["Subject"], mail["To"]) == (fired["subject"], "team@example.org")
        assert mail.get_content().splitlines() == fired["text"].splitlines()
        assert team.logins == ["speclab:pa$s"]

        shell("run", "crm-contacts-to-billing", exit_code=1)  # partial: some records are invalid
        run_alerts("--once", exit_code=1, within=shell)
        (_, resolved) = ops.bodies
        assert [(one["kind"], one["alert"]) for one in resolved["alerts"]] == [("resolved", "Run failed")]
        assert resolved["alerts"][0]["since"] == fired["alerts"][0]["since"]
        assert "Resolved at " in resolved["text"]
        assert [mail["Subject"] for mail in team.mails[1:]] == [
            "speclab: 1 firing, 1 resolved: CRM Contacts to Billing"
        ]
        text = team.mails[1].get_content()
        dead = sum(BAD.values()) - BAD["test contact"]
        assert f"Dead letters: {dead} (alert: above 10)" in text
        line = next(n for n, text in enumerate(demo.spec.read_text().splitlines(), 1) if "target.birth_date" in text)
        assert f"11 records: mapping, dead, target.birth_date at specs/crm-contacts-to-billing.md:{line}" in text
        assert "and 12 failures in 3 other groups" in text
        assert "More: speclab failures crm-contacts-to-billing" in text
        assert not any(name in text for name in ("@Example.org", "Lovelace", "Atlantis", "XA"))
        (row, *_) = shell.rows("alerts", exit_code=1)
        assert (row["alert"], row["state"], row["undelivered"]) == ("Dead letters", "firing", 0)


def test_a_scheduler_that_died_is_reported_by_the_evaluation_from_cron(people: Shell, run_alerts: Alerts) -> None:
    with http_receiver() as ops:
        notify(people.directory / "specs/people.md", ONE_HOOK.format(url=ops.url))
        people("run", "people", exit_code=1)
        at = "2026-01-01T00:00:00.000Z"
        write_heartbeat(people.directory, Heartbeat(1, "elsewhere", "ada", "", since=at, beat=at))
        run_alerts("--once", exit_code=1, within=people)
        (message,) = ops.bodies
        (alert,) = message["alerts"]
        assert (alert["alert"], alert["severity"]) == ("Scheduler is not running", "critical")
        assert alert["figure"].startswith(
            "speclab up, process 1 on elsewhere, died; its last heartbeat was at 2026-01-01"
        )


def test_a_test_message_is_sent_to_a_channel(people: Shell, run_alerts: Alerts) -> None:
    with http_receiver() as ops:
        notify(people.directory / "specs/people.md", ONE_HOOK.format(url=ops.url))
        done = run_alerts("test", "ops", within=people)
        assert done == "ops of people: delivered (webhook)\n"
        assert ops.bodies[0]["alerts"][0]["alert"] == "Test of the channel"
        ops.answers = [(404, {}, b"no_service")]
        done = run_alerts("test", "ops", exit_code=1, within=people)
        assert "127.0.0.1 responded with 404: no_service" in done
    with pytest.raises(UsageError, match="no channel 'op'") as unknown:
        run_alerts("test", "op", within=people)
    assert "did you mean 'ops'" in unknown.value.hint


def test_an_alert_is_silenced_and_released_with_a_reason(people: Shell, run_alerts: Alerts) -> None:
    with http_receiver() as ops:
        notify(people.directory / "specs/people.md", ONE_HOOK.format(url=ops.url))
        people("run", "people", exit_code=1)
        run_alerts("--once", exit_code=0, within=people)
        with pytest.raises(UsageError, match="--for and --reason are required"):
            run_alerts("silence", "Run failed", "--for", "2h", within=people)
        done = run_alerts("silence", "Run failed", "--for", "2h", "--reason", "upgrade of the CRM", within=people)
        assert done.startswith("people: Run failed: silenced until ")
        (people.directory / "in.jsonl").unlink()
        people("run", "people", exit_code=None)
        run_alerts("--once", exit_code=1, within=people)
        rows = people.rows("alerts", exit_code=1)
        assert [(row["alert"], row["silence_reason"]) for row in rows if row["state"] == "firing"] == [
            ("Run failed", "upgrade of the CRM")
        ]
        assert ops.received == []
        run_alerts("silence", "Run failed", "--end", within=people)
        run_alerts("--once", exit_code=1, within=people)
        assert [one["alert"] for one in ops.bodies[0]["alerts"]] == ["Run failed"]
    with pytest.raises(UsageError, match="no alert 'Run faled'") as unknown:
        run_alerts("silence", "Run faled", "--end", within=people)
    assert "did you mean 'Run failed'" in unknown.value.hint


def test_the_hosts_of_channels_are_listed_for_trust_without_tokens(people: Shell) -> None:
    settings = """\
### Error Notifications

```yaml
channels:
  hook: {webhook: "https://ops.example/hooks/abcdefgh12345"}
  any: {apprise: "${env:ANY}"}
  mail: {email: {to: ops@example.org, smtp: "smtp://${env:LOGIN}@mail.example:587"}}
```
"""
    (people.directory / ".speclab").mkdir()
    people.write(".env", "ANY=slack://T0001/B0002/Sup3rS3cret\n")
    notify(people.directory / "specs/people.md", settings)
    wanted = read_wanted(people.directory / "specs/people.md")
    assert sorted(str(reach) for reach in wanted.reaches if reach.role == "alerts") == [
        "alerts host: apprise slack",
        "alerts host: https://ops.example",
        "alerts host: smtp://mail.example:587",
        "alerts reference: env:ANY",
        "alerts reference: env:LOGIN",
    ]
