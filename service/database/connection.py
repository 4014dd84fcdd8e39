"""A connection to PostgreSQL: its socket, its types, and why one cannot be opened."""

import fcntl
import logging
import math
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import cycle
from typing import Any, Self

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, UNICODE, new_type, parse_dsn, register_type

from service.budget import Budget
from service.errors import AnswerTooLarge, DatabaseNotReady, DatabaseUnavailable

APPLICATION_NAME = "admin-credits"
# Grace after tcp_user_timeout, with which the kernel ends an attempt to connect and libpq tries the next address.
GRACE_S = 1
# The bytes of a statement's result. In Python its rows take up to twelve times as much memory.
MAX_RESULT = 2**22
# libpq's text of a failed connection names roles and addresses; only these words of it are logged.
CONNECT_FAILURES = (
    "Connection refused",
    "Connection timed out",
    "No route to host",
    "could not translate host name",
    "server closed the connection unexpectedly",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not accepting connections",
    "session is read-only",
    "server is in hot standby mode",
    "server is not in hot standby mode",
    "too many clients already",
    "too many connections",
    "remaining connection slots are reserved",
    "password authentication failed",
    "root certificate file",
    "no such database",
    "no such user",
    "unsupported startup parameter",
    "no more connections allowed",
    "server login has been failing",
    "server_login_retry",
    "query_wait_timeout",
    "pgbouncer cannot connect to server",
    "SASL authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not support SSL",
    "certificate verify failed",
    "does not exist",
)

log = logging.getLogger(__name__)


def find_certificates() -> None:
    """Tell OpenSSL where the certificates of this machine are, for ``sslrootcert=system``.

    The OpenSSL in psycopg2-binary looks for them where its wheel was built. Python's ssl module knows their place.
    """
    paths = ssl.get_default_verify_paths()
    if not {paths.openssl_cafile_env, paths.openssl_capath_env} & os.environ.keys():
        os.environ[paths.openssl_cafile_env] = paths.openssl_cafile
        os.environ[paths.openssl_capath_env] = paths.openssl_capath


def in_rfc_3339(instant: Any, _cursor: object) -> Any:
    """Spell a timestamptz as RFC 3339 with six fractional digits.

    ``instant`` is PostgreSQL's text, in UTC. It is returned unchanged outside the years 1 to 9999, for which Python has
    no datetime.
    """
    if not instant or instant[4] != "-" or not instant.endswith("+00"):
        return instant
    return f"{instant[:10]}T{instant[11:19]}.{instant[20:-3]:0<6}+00:00"


def exact(total: Any, _cursor: object) -> int | None:
    """Read a numeric, which is a sum of bigint: an integer of any length."""
    return int(total) if total else None


# Instants and days are text. By default psycopg2 makes datetimes of them, which takes longer and fails for some.
TYPES = (
    new_type((1184,), "INSTANT", in_rfc_3339),
    new_type((1082,), "DAY", UNICODE),
    new_type((1700,), "TOTAL", exact),
)
# Parameters of a session that make answers wrong or impossible.
REFUSED = {
    ("server_encoding", "SQL_ASCII"): "The encoding of the database is SQL_ASCII, in which bytes are no characters.",
    # psycopg2 looks at it once and quotes accordingly, and each transaction switches it on.
    (
        "standard_conforming_strings",
        "off",
    ): "The role must have standard_conforming_strings on: run reader_role.sql again.",
}


def with_addresses(dsn: dict[str, str]) -> dict[str, str]:
    """Return a DSN with the addresses of its host names.

    libpq would look them up while psycopg2 holds the GIL, so that no thread of the worker could run.

    Raises:
        psycopg2.OperationalError: when no name has an address.
    """
    hosts, ports = dsn.get("host", "").split(","), dsn.get("port", "").split(",")
    is_socket = any(host.startswith(("/", "@")) for host in hosts)
    if "hostaddr" in dsn or "" in hosts or is_socket or len(ports) not in (1, len(hosts)):
        return dsn
    found = []
    for host, port in zip(hosts, cycle(ports), strict=False):
        with suppress(socket.gaierror):
            # bytes, because Python refuses some names that resolvers know
            looked_up = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
            found += [(host, str(address[0]), port) for *_, address in looked_up]
    if not found:
        raise psycopg2.OperationalError("could not translate host name")
    return dsn | dict(zip(("host", "hostaddr", "port"), map(",".join, zip(*found, strict=True)), strict=True))


class NoAnswer(psycopg2.OperationalError):
    """The server did not answer in time; the connection is closed."""


class Connection:
    """A connection on which every wait has a deadline.

    psycopg2's blocking calls have none: they wait forever for a server that acknowledges every packet and sends
    nothing. ``psycopg2.extensions.set_wait_callback`` would add one, but for the whole process, and forbids COPY.
    So this is an asynchronous connection, polled here. It also begins no transaction by itself.
    """

    def __init__(self, parameters: Mapping[str, Any], address_timeout_ms: float, timeout_ms: float) -> None:
        self.opened = time.monotonic()
        self._raw = psycopg2.connect(**parameters, async_=True)
        for type_ in TYPES:
            register_type(type_, self._raw)
        self._wait(address_timeout_ms, timeout_ms)
        for (name, value), sentence in REFUSED.items():
            if self._raw.get_parameter_status(name) == value:
                self.close()
                log.error("%s", sentence)
                raise DatabaseNotReady(sentence)
        self.is_utf8 = self._raw.get_parameter_status("server_encoding") == "UTF8"

    @classmethod
    def open(cls, database_url: str, timeout_s: int, budget: Budget) -> Self:
        """Connect; ``timeout_s`` is for each address, and for each silence of the network.

        Raises:
            DatabaseUnavailable: when that fails or takes too long.
            DatabaseNotReady: when the session could give wrong answers.
            DatabaseTimeout: when the time of the request is over.
        """
        parameters = {
            "fallback_application_name": APPLICATION_NAME,
            # Give up a network that drops packets after this time, with data under way or without.
            "tcp_user_timeout": timeout_s * 1_000,
            "keepalives_idle": timeout_s,
            "keepalives_interval": 1,
        }
        try:
            with budget.database_time():
                parameters |= with_addresses(parse_dsn(database_url)) | {"client_encoding": "UTF8"}
                return cls(parameters, (timeout_s + GRACE_S) * 1_000, budget.left_ms())
        except psycopg2.Error as error:
            reason = next((words for words in CONNECT_FAILURES if words in str(error)), "unknown reason")
            log.warning("%s while connecting: %s", type(error).__name__, reason)
            raise DatabaseUnavailable from None

    @property
    def closed(self) -> bool:
        """Whether the connection was closed from here or is known to be lost."""
        return bool(self._raw.closed)

    def execute(self, text: str, parameters: Mapping[str, object], timeout_ms: float) -> list[tuple[Any, ...]]:
        """Send a text and return the rows of its last statement, none where that returns none.

        Raises:
            NoAnswer: when the server does not answer in time.
            AnswerTooLarge: when the result exceeds MAX_RESULT; the connection is closed.
            psycopg2.Error: any other failure.
        """
        cursor = self._raw.cursor()
        cursor.execute(text, parameters)
        self._wait(timeout_ms)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Close the connection; the server ends its transaction."""
        self._raw.close()

    def _wait(self, socket_timeout_ms: float, timeout_ms: float = math.inf) -> None:
        """Poll until libpq is done; it opens another socket for each address that it connects to."""
        end = time.monotonic() + timeout_ms / 1_000
        waited_for = None
        waits = most = 0
        while (state := self._raw.poll()) != POLL_OK:
            inode = os.fstat(self._raw.fileno()).st_ino
            if inode != waited_for:
                waited_for, deadline = inode, min(time.monotonic() + socket_timeout_ms / 1_000, end)
            ready = select.poll()
            ready.register(self._raw.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not ready.poll(max(0.0, deadline - time.monotonic()) * 1_000):
                self.close()
                raise NoAnswer
            waits += 1
            # Asking the kernel costs microseconds, and a small result takes few waits.
            if waits == 8:
                most = self._bytes_read() + MAX_RESULT
            elif waits > 8 and self._bytes_read() > most:
                self.close()
                log.warning("a result larger than %d bytes", MAX_RESULT)
                raise AnswerTooLarge

    def _bytes_read(self) -> int:
        """Return how many bytes libpq has read from the socket; 0 for a Unix socket, which does not count them."""
        sock = socket.socket(fileno=self._raw.fileno())
        try:
            # struct tcp_info, tcpi_bytes_received
            (received,) = struct.unpack_from("Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136), 128)
            (unread,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
            return int(received - unread)
        except OSError:
            return 0
        finally:
            sock.detach()
