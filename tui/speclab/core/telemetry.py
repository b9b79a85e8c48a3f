"""Telemetry of a run: traces and metrics for OpenTelemetry, if the standard `OTEL_*` variables ask for them.

The extra `otel` provides the SDK, which is imported only then. Without it, nothing is recorded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import urlsplit

from speclab.core.outcome import Level

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Report = Callable[[Level, str], None]
Attribute = str | int | float | bool

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SIGNALS: Final = ("TRACES", "METRICS")
_PROTOCOLS: Final = ("", "http/protobuf")
_LAST: Final = 5.0
"""Maximum seconds that the end of a run waits for a collector."""
_SDK: Final = "opentelemetry"
"""The logger of the SDK."""


class Telemetry(Protocol):
    """Records what a run does. Each method returns a block whose attributes can be set until it ends."""

    def run(self, spec_id: str, trigger: str) -> AbstractContextManager[Attributes]:
        """Record a run."""

    def page(self, number: int) -> AbstractContextManager[Attributes]:
        """Record the processing of a page."""

    def request(self, method: str, url: str) -> AbstractContextManager[Attributes]:
        """Record a request to `url`, which has no credentials."""

    def close(self) -> None:
        """Send what was recorded."""


class Attributes(Protocol):
    """The attributes of what is recorded."""

    def set(self, name: str, value: Attribute) -> None:
        """Set one."""


class NoTelemetry:
    """Records nothing."""

    def run(self, spec_id: str, trigger: str) -> NoTelemetry:
        """Record nothing."""
        del spec_id, trigger
        return self

    def page(self, number: int) -> NoTelemetry:
        """Record nothing."""
        del number
        return self

    def request(self, method: str, url: str) -> NoTelemetry:
        """Record nothing."""
        del method, url
        return self

    def set(self, name: str, value: Attribute) -> None:
        """Record nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del error


NO_TELEMETRY: Final = NoTelemetry()


def open_telemetry(environ: Mapping[str, str], report: Report, version: str) -> Telemetry:
    """Return the telemetry that the environment asks for; `report` gets the reason if it is not available.

    `version` is that of speclab.
    """
    wanted = [signal for signal in _SIGNALS if _is_wanted(environ, signal)]
    if not wanted:
        return NO_TELEMETRY
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol not in _PROTOCOLS:
        report(Level.WARNING, f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not supported; expected http/protobuf")
        return NO_TELEMETRY
    try:
        return OpenTelemetry(environ, wanted, report, version)
    except ImportError:
        install = "install it with `pip install 'speclab-tui[otel]'`"
        report(Level.WARNING, f"{_ENDPOINT} is set, but the OpenTelemetry SDK is not installed; {install}")
        return NO_TELEMETRY


def _is_wanted(environ: Mapping[str, str], signal: str) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get(_ENDPOINT)
    return bool(endpoint) and environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"


class OpenTelemetry:
    """Sends traces and metrics over OTLP (HTTP), as the `OTEL_*` variables configure the SDK."""

    def __init__(self, environ: Mapping[str, str], signals: list[str], report: Report, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._report = report
        self._errors = _FirstError(report)
        logger = logging.getLogger(_SDK)
        logger.addHandler(self._errors)
        logger.propagate = False
        named = "OTEL_SERVICE_NAME" in environ or "service.name" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({"service.version": version} | ({} if named else {"service.name": "speclab"}))
        self._tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        if "TRACES" in signals:
            self._tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if "METRICS" in signals else []
        self._metering = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        self._tracer = self._tracing.get_tracer("speclab", version)
        meter = self._metering.get_meter("speclab", version)
        self._runs = meter.create_histogram("speclab.run.duration", "s", "Duration of runs.")
        self._records = meter.create_counter("speclab.records", "{record}", "Records by outcome.")
        self._requests = meter.create_histogram("http.client.request.duration", "s", "Duration of HTTP requests.")

    @contextmanager
    def run(self, spec_id: str, trigger: str) -> Iterator[SpanAttributes]:
        """Record a run, its duration and its records."""
        with self._measure(f"run {spec_id}", {"speclab.integration": spec_id, "speclab.trigger": trigger}) as found:
            yield found
        state = found.values.get("speclab.state", "failed")
        self._runs.record(found.seconds, {"speclab.integration": spec_id, "speclab.state": state})
        for name, value in found.values.items():
            if name.startswith(_RECORDS) and isinstance(value, int):
                outcome = name.removeprefix(_RECORDS)
                self._records.add(value, {"speclab.integration": spec_id, "speclab.outcome": outcome})

    @contextmanager
    def page(self, number: int) -> Iterator[SpanAttributes]:
        """Record the processing of a page."""
        with self._measure("page", {"speclab.page": number}) as found:
            yield found

    @contextmanager
    def request(self, method: str, url: str) -> Iterator[SpanAttributes]:
        """Record a request and its duration."""
        address = urlsplit(url).hostname or ""
        fixed: dict[str, Attribute] = {"http.request.method": method, "server.address": address}
        try:
            with self._measure(method, fixed | {"url.full": url}, client=True) as found:
                yield found
        finally:
            status = found.values.get("http.response.status_code")
            self._requests.record(
                found.seconds, fixed | ({} if status is None else {"http.response.status_code": status})
            )

    def close(self) -> None:
        """Send what was recorded; a collector that does not answer delays this by at most `_LAST` seconds."""
        deadline = time.monotonic() + _LAST
        threads = [Thread(target=provider.shutdown, daemon=True) for provider in (self._tracing, self._metering)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in threads):
            self._report(Level.WARNING, f"telemetry: the collector did not accept everything within {_LAST:g} s")
        logging.getLogger(_SDK).removeHandler(self._errors)

    @contextmanager
    def _measure(
        self, name: str, attributes: Mapping[str, Attribute], *, client: bool = False
    ) -> Iterator[SpanAttributes]:
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        began = time.monotonic()
        # The message of an exception may contain a secret, and its traceback even more.
        with self._tracer.start_as_current_span(name, kind=kind, attributes=attributes, record_exception=False,
                                                set_status_on_exception=False) as span:  # fmt: skip
            found = SpanAttributes(span)
            try:
                yield found
            except BaseException as error:
                found.set("error.type", type(error).__name__)
                raise
            finally:
                found.end(time.monotonic() - began)


class _FirstError(logging.Handler):
    """Reports the first error of the SDK, which repeats it for every attempt."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report: Report | None = report

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record, if it is the first."""
        report, self._report = self._report, None
        if report is not None:
            report(Level.WARNING, f"telemetry: {record.getMessage()}")


_RECORDS: Final = "speclab.records."


class SpanAttributes:
    """The attributes of a span, and its duration in seconds once it has ended."""

    def __init__(self, span: Span) -> None:
        self.values: dict[str, Attribute] = {}
        self.seconds = 0.0
        self._span = span

    def set(self, name: str, value: Attribute) -> None:
        """Set an attribute."""
        self.values[name] = value
        self._span.set_attribute(name, value)

    def end(self, seconds: float) -> None:
        """Set the duration and the status."""
        from opentelemetry.trace import StatusCode

        self.seconds = seconds
        status = self.values.get("http.response.status_code")
        failed = isinstance(status, int) and status >= 400
        if failed or "error.type" in self.values or self.values.get("speclab.state") == "failed":
            self._span.set_status(StatusCode.ERROR)
