"""The settings, read from the environment once and checked."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import psycopg2
from psycopg2.extensions import parse_dsn

# The secrets on the lines of the files that these variables name.
SECRET_FILES = {
    "DATABASE_URL_FILE": ("DATABASE_URL",),
    "API_KEY_SECRET_FILE": ("API_KEY_SECRET", "API_KEY_SECRET_PREVIOUS"),
}
SPEND_SOURCES = ("auto", "events", "sums")
# How many credits make a dollar by default, by the name of the column of credits: cents, or millionths of a dollar.
CREDITS_PER_USD = {"credits_deducted_cents": "100", "credits_deducted": "1000000"}
# Requests of a worker in the queue for first lookups of keys: more than POOL_SIZE + QUEUE_SIZE by default, so that
# it does not refuse a burst of an admin's first requests.
MAX_FIRST_LOOKUPS = 32


class ConfigurationError(Exception):
    """A setting is missing or malformed; the message names it and never quotes a secret."""


def _setting(read: Callable[[str], Any], **options: Any) -> Any:
    """Declare a setting; it is required unless ``default`` is among the options."""
    return field(metadata={"read": read}, **options)


def _text(value: str) -> str:
    return value


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be an integer from {lowest} to {highest}")
        return int(value)

    return read


def _positive_number(value: str) -> str:
    """Check a decimal number and return its text, so that the page can divide by it exactly."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value) or not float(value):
        raise ValueError("must be a positive number in decimal notation")
    return value


def _uuid(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise ValueError("must be a UUID in its hyphenated form")
    return str(UUID(value))


def _host(value: str) -> str:
    with suppress(ValueError):
        ip_address(value.strip("[]"))
        return value
    if value != "localhost":
        raise ValueError("must be an IPv4 or IPv6 address")
    return value


def _libpq_uri(value: str) -> str:
    try:
        dsn = parse_dsn(value)
        # parse_dsn() also accepts key=value text. It takes what follows an @ or / of the password for host or port.
        well_formed = value.startswith(("postgresql://", "postgres://")) and not (
            "@" in dsn.get("host", "")[1:] or re.search(r"[^0-9,]", dsn.get("port", ""))
        )
    except psycopg2.ProgrammingError:
        well_formed = False
    if not well_formed:
        # libpq's message quotes the URI, which may hold a password
        raise ValueError(
            "must be a libpq URI, postgresql://user@host/database, in which @, #, / and % of a password are written "
            "%40, %23, %2F and %25"
        )
    return value


def _choice(*values: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return value

    return read


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set, and those that stand in the files of SECRET_FILES."""
    given = {name: text for name, text in environ.items() if text}
    for variable in SECRET_FILES.keys() & given.keys():
        names = SECRET_FILES[variable]
        try:
            # bytes that are no UTF-8 become what they are in the environment
            lines = [os.fsdecode(line) for line in Path(given[variable]).read_bytes().splitlines()]
        except OSError as error:
            raise ConfigurationError(f"{variable} names a file that cannot be read: {error.strerror}") from None
        if not lines or len(lines) > len(names) or "" in lines:
            raise ConfigurationError(f"{variable} names a file that must have the lines {', '.join(names)}")
        for name, line in zip(names, lines, strict=False):
            if name in given:
                raise ConfigurationError(f"{name} is set, and also in the file of {variable}")
            given[name] = line
    return given


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the service; each field is the environment variable of its name in capitals.

    ``pool_size`` and ``queue_size`` are per worker process. A statement never runs longer than its request may, so a
    ``statement_timeout_ms`` above ``request_timeout_ms`` has no effect.
    """

    database_url: str = _setting(_libpq_uri, repr=False)
    api_key_secret: str = _setting(_text, repr=False)
    api_key_secret_previous: str | None = _setting(_text, repr=False, default=None)
    admin_organization_id: str = _setting(_uuid, default="04e3aba9-c130-4fb8-8b92-34e95d43e66b")
    host: str = _setting(_host, default="127.0.0.1")
    port: int = _setting(_integer(1, 65_535), default=8_000)
    web_concurrency: int = _setting(_integer(1, 256), default=2)
    pool_size: int = _setting(_integer(1, 256), default=4)
    # Less than the 1,000 connections that a worker of gunicorn accepts: the rest is for health checks.
    queue_size: int = _setting(_integer(0, 500), default=20)
    queue_timeout_ms: int = _setting(_integer(1, 60_000), default=500)
    statement_timeout_ms: int = _setting(_integer(1, 600_000), default=10_000)
    request_timeout_ms: int = _setting(_integer(1, 600_000), default=15_000)
    connect_timeout_s: int = _setting(_integer(2, 60), default=3)
    credits_per_usd: str | None = _setting(_positive_number, default=None)
    spend_source: str = _setting(_choice(*SPEND_SOURCES), default="auto")
    log_level: str = _setting(_choice("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO")

    def credits_per_usd_of(self, credits_column: str) -> str:
        """Return how many credits of a column make a dollar, as a decimal number."""
        return self.credits_per_usd or CREDITS_PER_USD[credits_column]

    @property
    def threads(self) -> int:
        """Threads of a worker: one for each request that uses or waits for the database, and 8 for all others.

        Health checks and refusals therefore never wait behind queries.
        """
        return self.pool_size + self.queue_size + MAX_FIRST_LOOKUPS + 8

    @property
    def graceful_timeout_s(self) -> int:
        """Seconds that a stopping worker has to finish its requests: the longest request, and 15 to send answers."""
        return -(-self.request_timeout_ms // 1_000) + 15

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting; an empty variable counts as unset.

        Raises:
            ConfigurationError: in one line, naming the first setting that is missing or malformed.
        """
        values = {}
        given = _with_files(environ)
        for setting in fields(cls):
            name = setting.name.upper()
            if text := given.get(name):
                try:
                    values[setting.name] = setting.metadata["read"](text)
                except ValueError as error:
                    raise ConfigurationError(f"{name} {error}") from None
        try:
            return cls(**values)
        except TypeError:
            missing = next(name for name in ("database_url", "api_key_secret") if name not in values)
            raise ConfigurationError(f"{missing.upper()} is required") from None

    def read_secrets_again(self, environ: Mapping[str, str]) -> None:
        """Take over what the files of the secrets contain now.

        The secrets are changed in place, because all parts of the application hold these settings.

        Raises:
            ConfigurationError: as from_environment() does; then nothing is changed.
        """
        fresh = self.from_environment(environ)
        for name in (name.lower() for names in SECRET_FILES.values() for name in names):
            object.__setattr__(self, name, getattr(fresh, name))


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each environment variable whose name looks like a misspelt setting."""
    names = [setting.name.upper() for setting in fields(Settings)] + list(SECRET_FILES)
    similar = {name: get_close_matches(name.upper(), names, 1, cutoff=0.85) for name in environ if name not in names}
    return [f"{name} is not a setting: is it {meant[0]}?" for name, meant in sorted(similar.items()) if meant]
