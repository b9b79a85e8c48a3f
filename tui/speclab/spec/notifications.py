"""Settings of the Error Notifications section: channels, what they are notified of, and when they are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Annotated, Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from speclab.spec.settings import Settings
from speclab.spec.settings_types import (
    Duration,
    HeaderText,
    HttpUrl,
    OptionalSecret,
    Text,
    TextType,
    Timeout,
    conflict,
)

BUILT_IN_CHANNELS: Final = ("log", "dashboard")
"""Channels that need no definition."""
KINDS: Final = ("slack", "teams", "email", "webhook", "apprise", "log", "dashboard")
"""The kinds of channels."""
CRITICAL: Final = "critical"
"""The severity of alerts that quiet hours may exempt."""

Day: TypeAlias = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
"""A day of the week."""

_DAYS: Final[tuple[Day, ...]] = get_args(Day)
_ADDRESS: Final = re.compile(r"[^@\s,<>]+@[^@\s,<>]+")
_SMTP: Final = re.compile(r"smtps?://\S+", re.IGNORECASE)


def _list_names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _parse_time(text: object) -> time:
    if isinstance(text, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        return time.fromisoformat(text)
    raise ValueError(f'expected a time of day in quotes such as "22:00", got {text!r}')


def _parse_moment(text: object) -> time | datetime:
    if isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d", text):
        return datetime.fromisoformat(text)  # without a zone: that of the window
    try:
        return _parse_time(text)
    except ValueError:
        raise ValueError(f'expected "22:00" or "2026-12-24 22:00" in quotes, got {text!r}') from None


def _parse_zone(text: object) -> str:
    try:
        return ZoneInfo(str(text)).key
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Berlin, got {text!r}") from None


def _check_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) and "${" not in text:
        raise ValueError(f"expected an e-mail address such as ops@example.org, got {text!r}")
    return text


def _check_smtp(text: str) -> str:
    if not _SMTP.fullmatch(text) and "${" not in text:
        raise ValueError("expected a URL such as smtp://mail.example.org:587")
    return text


Names = Annotated[tuple[Text, ...], BeforeValidator(_list_names), TextType("channel, or list of channels")]
"""The names of channels."""
Address = Annotated[str, AfterValidator(_check_address), TextType("e-mail address")]
"""An e-mail address."""
Addresses = Annotated[
    tuple[Address, ...], BeforeValidator(_list_names), Field(min_length=1), TextType("list of e-mail addresses")
]
"""One or more e-mail addresses."""
SmtpUrl = Annotated[
    str, AfterValidator(_check_smtp), Field(json_schema_extra={"login": True}), TextType("URL of an SMTP server")
]
"""An smtp or smtps URL, possibly with credentials."""
TimeOfDay = Annotated[time, BeforeValidator(_parse_time), TextType("time of day")]
"""A time of day."""
Moment = Annotated[time | datetime, BeforeValidator(_parse_moment), TextType("time of day, or date and time")]
"""A time of day, or a date and time."""
Days = Annotated[tuple[Day, ...], BeforeValidator(_list_names), TextType("day, or list of days")]
"""Days of the week."""
Zone = Annotated[str, BeforeValidator(_parse_zone), TextType("time zone")]
"""An IANA time zone."""


class EmailChannel(Settings):
    """E-mail, sent over SMTP."""

    to: Addresses = Field(description="Recipients.")
    smtp: SmtpUrl = Field(
        description="URL of the SMTP server, with its credentials: smtp:// (with STARTTLS if offered) or smtps://."
    )
    sender: Address | None = Field(
        default=None, alias="from", description="Sender; default: the first of the recipients."
    )


class Channel(Settings):
    """A channel: exactly one of the kinds, with its options."""

    slack: OptionalSecret = Field(default=None, description="URL of a Slack incoming webhook.")
    teams: OptionalSecret = Field(default=None, description="URL of a Microsoft Teams workflow for webhooks.")
    email: EmailChannel | None = Field(default=None, description="E-mail, sent over SMTP.")
    webhook: HttpUrl | None = Field(
        default=None, json_schema_extra={"login": True}, description="URL to send the message to as JSON, with POST."
    )
    apprise: OptionalSecret = Field(
        default=None, description="URL of any service that Apprise supports; needs the extra `apprise`."
    )
    log: StrictBool = Field(default=False, description="Whether to print to the output of `speclab up`.")
    dashboard: StrictBool = Field(default=False, description="Whether to show the message in the Monitor's events.")
    headers: dict[str, HeaderText] = Field(default_factory=dict, description="Headers of the request of a `webhook`.")
    timeout: Timeout = Field(default=10.0, description="Timeout of one delivery.")

    @model_validator(mode="after")
    def _one_kind(self) -> Channel:
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        if len(kinds) != 1:
            found = f"it has {' and '.join(kinds)}" if kinds else "it has none"
            raise conflict(f"a channel is one of {', '.join(KINDS)}; {found}", at=kinds[-1] if kinds else None)
        if self.headers and not self.webhook:
            raise conflict("`headers` belong to a `webhook`", at="headers")
        return self

    @property
    def kind(self) -> str:
        """The kind of the channel."""
        return next(kind for kind in KINDS if getattr(self, kind))


class DeadLetterNotice(Settings):
    """Notification of dead letters."""

    above: int = Field(default=0, ge=0, description="Number of dead letters above which the channels are notified.")
    to: Names = Field(description="Channels to notify.")


class NotifyOn(Settings):
    """What causes a notification, and which channels get it."""

    failed: Names = Field(default=(), description="Channels for a run that fails or is interrupted.")
    dead_letters: DeadLetterNotice | None = Field(default=None, description="Notification of dead letters.")
    overdue: Names | None = Field(
        default=None,
        description="Channels for an integration without a successful run for twice its period, and for a scheduler "
        "that has stopped; default: those of `failed`.",
    )
    alerts: Names | None = Field(
        default=None, description="Channels for rows of Alerts without `Notify`; default: those of `failed`."
    )
    recovered: Names | None = Field(
        default=None, description="Channels for resolved messages; default: the channels of the alert."
    )


class QuietHours(Settings):
    """Times of day at which messages wait until the end of the quiet hours."""

    start: TimeOfDay = Field(alias="from", description="Start of the quiet hours.")
    end: TimeOfDay = Field(alias="to", description="End of the quiet hours, on the next day if it is before `from`.")
    zone: Zone = Field(default="UTC", description="Time zone, such as Europe/Berlin.")
    exempt: Literal["critical"] | None = Field(
        default=None, alias="except", description="Severity that is delivered at once."
    )

    def find_end(self, now: datetime) -> datetime | None:
        """Return when the quiet hours that contain `now` end; None outside of them."""
        return _find_end(self.start, self.end, self.zone, now, ())


class MaintenanceWindow(Settings):
    """A time in which nothing is notified: on some days of the week, or once."""

    start: Moment = Field(alias="from", description='Start: "22:00" or "2026-12-24 22:00".')
    end: Moment = Field(alias="to", description="End, in the same form as `from`.")
    days: Days = Field(default=(), description="Days of the week on which a daily window starts; default: every day.")
    zone: Zone = Field(default="UTC", description="Time zone, such as Europe/Berlin.")
    reason: Text | None = Field(default=None, description="Reason, shown with the alerts.")

    @model_validator(mode="after")
    def _in_order(self) -> MaintenanceWindow:
        if isinstance(self.start, datetime) != isinstance(self.end, datetime):
            raise conflict("expected `from` and `to` to be both times of day, or both dates with times", at="to")
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            if self.end <= self.start:
                raise conflict("`to` is not after `from`", at="to")
            if self.days:
                raise conflict("`days` has no effect on a window with dates", at="days")
        return self

    def contains(self, now: datetime) -> bool:
        """Return whether `now` is in the window."""
        if isinstance(self.start, time) and isinstance(self.end, time):
            return _find_end(self.start, self.end, self.zone, now, self.days) is not None
        local = now.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        assert isinstance(self.start, datetime)  # noqa: S101 - `_in_order` has checked both
        assert isinstance(self.end, datetime)  # noqa: S101
        return self.start <= local < self.end


def _find_end(start: time, end: time, zone: str, now: datetime, days: Sequence[str]) -> datetime | None:
    """Return the end of the daily window that contains `now` and starts on one of `days`; None if it does not exist."""
    local = now.astimezone(ZoneInfo(zone))
    for back in (0, 1):
        day = local.date() - timedelta(days=back)
        if days and _DAYS[day.weekday()] not in days:
            continue
        first = datetime.combine(day, start, local.tzinfo)
        last = datetime.combine(day + timedelta(days=end <= start), end, local.tzinfo)
        if first <= local < last:
            return last
    return None


class NotificationSettings(Settings):
    """Channels, what they are notified of, and when they are not."""

    channels: dict[str, Channel] = Field(
        default_factory=dict, description="Channels by name; `log` and `dashboard` exist without a definition."
    )
    on: NotifyOn = Field(default_factory=NotifyOn, description="What causes a notification.")
    reminder: Duration | None = Field(
        default=None, description="Interval of reminders while an alert is firing; default: no reminders."
    )
    quiet: QuietHours | None = Field(default=None, description="Quiet hours: messages wait until their end.")
    maintenance: tuple[MaintenanceWindow, ...] = Field(
        default=(), description="Maintenance windows: alerts are evaluated and not notified."
    )

    @model_validator(mode="after")
    def _known_channels(self) -> NotificationSettings:
        on = self.on
        dead = on.dead_letters.to if on.dead_letters else ()
        named = {"failed": on.failed, "dead_letters": dead, "overdue": on.overdue or ()}
        named |= {"alerts": on.alerts or (), "recovered": on.recovered or ()}
        for setting, names in named.items():
            for name in names:
                if not self.has_channel(name):
                    raise conflict(f"no channel {name!r} in `channels`: {self.describe_channels()}", at=f"on.{setting}")
        return self

    def has_channel(self, name: str) -> bool:
        """Return whether there is a channel of that name."""
        return name in self.channels or name in BUILT_IN_CHANNELS

    def describe_channels(self) -> str:
        """Return the names of all channels, for a message."""
        return f"expected one of {', '.join(dict.fromkeys([*self.channels, *BUILT_IN_CHANNELS]))}"

    def get_channel(self, name: str) -> Channel | None:
        """Return the channel of that name; None if it does not exist."""
        if name not in self.channels and name in BUILT_IN_CHANNELS:
            return Channel.model_validate({name: True})
        return self.channels.get(name)

    def find_channels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the channels of an alert: those of `names` that exist, or else the default."""
        named = tuple(name for name in names if self.has_channel(name))
        return named or (self.on.alerts if self.on.alerts is not None else self.on.failed)
