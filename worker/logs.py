"""The worker's log: one JSON line an event, on standard error, from us and from the libraries alike.

Laws:  1. One formatter for all loggers. 2. What the beat and Celery say at each job is left out: our own lines say what
       happened, and sweeps run each second. 3. URLs of stores never appear with their password.
Not here: what is worth a line (each module).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

Event = MutableMapping[str, Any]
_CREDENTIALS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_CHATTER = ("Scheduler: Sending due task", "Task %(name)s[%(id)s] received", "Task %(name)s[%(id)s] succeeded")


def set_up(level: str, program: str) -> None:
    """Replace whatever handlers there are."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="@timestamp"),
    ]
    ours: list[Any] = [
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.configure(
        processors=[*shared, *ours], logger_factory=structlog.stdlib.LoggerFactory(), cache_logger_on_first_use=True
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _Program(program),
            structlog.processors.format_exc_info,
            _redact,
            structlog.processors.JSONRenderer(),
        ],
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(formatter)
    stream.addFilter(_is_not_chatter)
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level)


class _Program:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        event["program"] = self._name
        return event


def _redact(_logger: Any, _method: str, event: Event) -> Event:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _CREDENTIALS.sub(r"\1***@", value)
    return event


def _is_not_chatter(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    if record.name == "py.warnings":  # Celery announces a default of its next major version at each lost connection
        return "CPendingDeprecationWarning" not in record.getMessage()
    return record.levelno > logging.INFO or not text.startswith(_CHATTER)
