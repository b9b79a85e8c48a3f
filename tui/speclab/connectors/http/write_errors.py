"""Write errors: from a response or a dropped connection to what the run log keeps."""

from __future__ import annotations

from dataclasses import replace

from speclab.connectors.api import WriteError
from speclab.connectors.http.client import Client, Exchange, RequestFailed, status_text
from speclab.connectors.http.error_locations import ErrorLocator
from speclab.connectors.http.rate_limit_headers import retry_after
from speclab.connectors.http.request_builder import MissingValue
from speclab.connectors.http.response import classify, explain, parsed
from speclab.core.json import Json
from speclab.core.outcome import ErrorClass


class WriteErrors:
    """Makes the refusals of one target."""

    def __init__(self, client: Client, locator: ErrorLocator) -> None:
        self._client = client
        self._locator = locator

    def of_answer(self, exchange: Exchange) -> WriteError:
        """The refusal an answer that is no success stands for."""
        body = parsed(exchange)
        field, said = self._locator.find(body)
        message = explain(exchange, body)
        if said and said not in message:
            message = f"{message}: {said}"
        return WriteError(
            error_class=classify(exchange.status),
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
            retry_after=retry_after(exchange.headers, self._client.clock.now()),
            field=field,
        )

    def of_entry(self, exchange: Exchange, entry: Json, status: int | None, message: str | None) -> WriteError:
        """The refusal of one entry in a batch's answer, which has that status and says that message."""
        known = status if status is not None and status >= 300 else None
        field, said = self._locator.find(entry)
        text = message or said or (status_text(known) if known else "the target refused this record")
        return WriteError(
            error_class=classify(known) if known else ErrorClass.REJECTED,
            message=self._client.message(text),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=known,
            field=field,
        )

    def denied(self, exchange: Exchange, message: str) -> WriteError:
        """The refusal of a success that says in its body that it is none."""
        field, _ = self._locator.find(parsed(exchange))
        return WriteError(
            error_class=ErrorClass.REJECTED,
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
            field=field,
        )

    def bad(self, exchange: Exchange, message: str) -> WriteError:
        """The refusal of an answer that cannot be understood: what was sent may have been done."""
        return WriteError(
            error_class=ErrorClass.BAD_ANSWER,
            message=self._client.message(message),
            request=self._client.request_text(exchange),
            response=self._client.response_text(exchange),
            status=exchange.status,
        )


def no_answer(error: RequestFailed) -> WriteError:
    """The refusal of a request that had no answer."""
    return WriteError(
        error_class=error.error_class,
        message=f"{error.message}. {error.hint}" if error.hint else error.message,
        request=error.request,
        response=error.response,
        retry_after=error.retry_after,
        sent=error.sent,
    )


def unsendable(error: MissingValue, request: str) -> WriteError:
    """The refusal of a record that lacks what its request needs."""
    return WriteError(
        error_class=ErrorClass.REJECTED,
        message=f"{request}: {error.message}",
        request=request,
        field=error.path,
        sent=False,
    )


def held_back(write_error: WriteError) -> WriteError:
    """The refusal of a record that was not sent because one before it got `write_error`."""
    return replace(write_error, message=f"not sent: {write_error.message}", sent=False)
