"""`speclab alerts`: from a failure to a message and back, with real receivers."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Shell
from tests.receivers import http_receiver, mail_receiver

from speclab.demo import BAD, create_workspace
from speclab.demo.servers import run_servers

NOTIFICATIONS = """\
### Error Notifications

```yaml
channels:
  ops: {webhook: "${env:OPS_URL}"}
  team: {email: {to: [team@example.org], from: speclab@example.org, smtp: "${env:SMTP_URL}"}}
on: {failed: [ops, team], dead_letters: {above: 10, to: team}}
```
"""


def notify(spec: Path, settings: str = NOTIFICATIONS) -> None:
    before, _, rest = spec.read_text("utf-8").partition("### Error Notifications\n")
    after = "\n## Monitoring & Alerting" + rest.partition("\n## Monitoring & Alerting")[2] if rest else ""
    spec.write_text(f"{before.rstrip()}\n\n{settings}{after}", "utf-8")


def test_the_demo_breaks_and_recovers_and_both_are_received_by_mail_and_http(tmp_path: Path) -> None:
    with run_servers(tmp_path / "billing.db") as env, http_receiver() as ops, mail_receiver() as team:
        demo = create_workspace(tmp_path / "demo")
        notify(demo.spec)
        smtp = f"smtp://speclab:pa%24s@127.0.0.1:{team.port}"
        shell = Shell(demo.directory, {**env, "OPS_URL": f"{ops.url}/hook", "SMTP_URL": smtp})
        broken = Shell(demo.directory, {**shell.env, "CRM_TOKEN": "revoked"})
        broken("run", "crm-contacts-to-billing", exit_code=4)
        shell("alerts", "--once", exit_code=1)
        shell("alerts", "--once", exit_code=1)  # nothing new
        (fired,) = ops.bodies
        assert [(one["kind"], one["alert"], one["severity"]) for one in fired["alerts"]] == [
            ("firing", "Run failed", "critical")
        ]
        assert fired["subject"] == "ALERT: CRM Contacts to Billing: Run failed"
        assert "Last run: " in fired["text"]
        assert "401" in fired["text"]
        assert "More: speclab runs crm-contacts-to-billing" in fired["text"]
        (mail,) = team.mails
        assert (mail["Subject"], mail["To"]) == (fired["subject"], "team@example.org")
        assert mail.get_content().splitlines() == fired["text"].splitlines()
        assert team.logins == ["speclab:pa$s"]

        shell("run", "crm-contacts-to-billing", exit_code=1)  # partial: some records are invalid
        shell("alerts", "--once", exit_code=1)
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
