"""One JSON line for every request, encoded and written in batches by one greenlet.

In:    finished exchanges, refusals (from the recorder).
Out:   lines with OpenTelemetry's names on standard output or in a file.
Laws:  1. A request never waits for the log: when the writer falls behind, the oldest lines go and are counted. 2. No
       credential, no header value but User-Agent, and of a query no value whose name sounds secret. 3. Free text is
       encoded as JSON in ASCII, so that nobody who reads lines and no terminal takes it for more; what is spliced in
       raw is a number or made by ourselves. 4. An exchange is held for one batch only, so that its body is not. 5. What
       waits is bounded by lines and by octets.
Not here: counting (metrics).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from typing import Final
from urllib.parse import unquote_to_bytes

import gevent
import orjson

from edge.errors import GatewayError
from edge.exchange import Exchange, Principal
from edge.telemetry.metrics import Cell

_LOG: Final = logging.getLogger(__name__)
BATCH_EVERY_S: Final = 0.025
_BATCHES_A_WRITE: Final = 4
"""Waking the thread that writes costs as much as encoding a hundred lines: not for every batch."""
_WRITE_BYTES: Final = 65_536
_LINES_A_TURN: Final = 32
"""So many are encoded before others get a turn: a whole batch would make them wait for a millisecond."""
EXCHANGES_MAX: Final = 8_192
LINES_MAX: Final = 65_536
BYTES_MAX: Final = 64 * 1024 * 1024
_MEMO_MAX: Final = 4_096
_SECRET_WORDS: Final = (
    b"token", b"secret", b"pass", b"pwd", b"key", b"auth", b"session", b"sig", b"code", b"credential", b"jwt", b"otp",
    b"pin", b"bearer", b"assertion", b"saml", b"ticket", b"cookie",
)  # fmt: skip
_REDACTED: Final = b"REDACTED"
_ALLOWED: Final = b',"rate_limit.result":"allowed"'
_REFUSED: Final = b',"rate_limit.result":"refused"'

_Refusal = tuple[GatewayError, str, bytes, float]


def upstream_end_mono(exchange: Exchange) -> float:
    """Give when the origin was done: its last byte where that was seen, else its head, else its failure."""
    return exchange.upstream_last_mono or exchange.upstream_first_mono or exchange.finished_mono


def _json(text: str) -> bytes:
    """JSON in ASCII. Beyond it there are ends of lines (U+0085, U+2028) and controls of terminals (U+009B)."""
    return orjson.dumps(text) if text.isascii() else json.dumps(text).encode("ascii")


class JsonTexts:
    """Free text to JSON, remembering what repeats (paths, user agents)."""

    __slots__ = ("_memo",)

    def __init__(self) -> None:
        self._memo: dict[bytes, bytes] = {}

    def of(self, text: bytes) -> bytes:
        found = self._memo.get(text)
        if found is None:
            found = _json(text.decode("utf-8", "replace"))
            if len(text) <= 256:
                if len(self._memo) >= _MEMO_MAX:
                    self._memo.clear()
                self._memo[text] = found
        return found


def redacted(query: bytes) -> bytes:
    """Give the query with the values of secret-sounding names replaced; names are compared unescaped."""
    return b"&".join([_redacted_pair(pair) for pair in query.split(b"&")])


def _redacted_pair(pair: bytes) -> bytes:
    """Some servers end a pair at ";" too: a secret is looked for behind each, and taken to reach to the end."""
    at = 0
    for part in pair.split(b";"):
        name, equals, _ = part.partition(b"=")
        if equals:
            plain = unquote_to_bytes(name).lower()
            if any(word in plain for word in _SECRET_WORDS):
                return pair[:at] + name + b"=" + _REDACTED
        at += len(part) + 1
    return pair


def fragment(tenant_id: str, subdomain: str, route_id: str, pattern: str) -> bytes:
    """Give the part of a line that depends on the tenant and the route alone."""
    parts = {"tenant.id": tenant_id, "tenant.subdomain": subdomain, "route.id": route_id, "http.route": pattern}
    return b",".join([b'"%b":%b' % (name.encode(), _json(value)) for name, value in parts.items() if value])


NOWHERE: Final = b'"tenant.id":null'
"""The fragment of requests that met no tenant."""


class _Said:
    """Members that equal requests of one caller share, and what they were made of besides the head."""

    __slots__ = ("client_ip", "fragment", "line", "path", "principal", "scheme")

    def __init__(self, cell: Cell, exchange: Exchange, line: bytes) -> None:
        self.fragment = cell.fragment
        self.principal: Principal | None = exchange.principal
        self.client_ip = exchange.client_ip
        self.scheme = exchange.scheme
        self.path = exchange.path
        self.line = line


class Encoder:
    """Lines of JSON, each ended by a line feed."""

    def __init__(self) -> None:
        self._texts = JsonTexts()
        self._queries: dict[bytes, bytes] = {}
        self._second = 0
        self._stamp = b""

    def _time(self, at: float) -> bytes:
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b'{"timestamp":"%b.%03dZ"' % (self._stamp, (at - second) * 1000)

    def _query(self, query: bytes) -> bytes:
        found = self._queries.get(query)
        if found is None:
            found = self._texts.of(redacted(query))
            if len(query) <= 256:
                if len(self._queries) >= _MEMO_MAX:
                    self._queries.clear()
                self._queries[query] = found
        return found

    def exchange(self, cell: Cell, exchange: Exchange, status: int) -> bytes:
        head = exchange.head
        said: _Said | None = head.logged
        if (
            said is None
            or said.fragment is not cell.fragment
            or said.principal is not exchange.principal
            or said.client_ip != exchange.client_ip
            or said.path is not exchange.path
            or said.scheme != exchange.scheme
        ):
            said = head.logged = self._say(cell, exchange)
        at = exchange.received_at
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return (
            b'{"timestamp":"%b.%03dZ","request.id":"%b",%b,'
            b'"http.response.status_code":%d,"duration_ms":%.3f,"http.request.size":%d,"http.response.size":%d%b}\n'
        ) % (
            self._stamp, (at - second) * 1000, exchange.request_id, said.line, status,
            (exchange.finished_mono - exchange.received_mono) * 1000, exchange.bytes_in, exchange.bytes_out,
            self._more(exchange),
        )  # fmt: skip

    def _say(self, cell: Cell, exchange: Exchange) -> _Said:
        """Write the members that equal requests of one caller share."""
        head = exchange.head
        of = self._texts.of
        line = (
            b'%b,"url.scheme":"%b","network.protocol.version":"1.%d","server.address":%b,"http.request.method":%b,'
            b'"url.path":%b,"client.address":"%b"'
        ) % (
            cell.fragment, exchange.scheme, head.version % 10, of(head.host), of(head.method),
            of(exchange.path or head.path), exchange.client_ip.encode("ascii", "replace"),
        )  # fmt: skip
        agent = head.section.get(b"user-agent")
        if agent is not None:
            line += b',"user_agent.original":%b' % of(agent)
        if head.query:
            line += b',"url.query":%b' % self._query(head.query)
        principal = exchange.principal
        if principal is not None:
            line += b',"principal.kind":"%b","principal.id":%b' % (
                principal.kind.encode(), of(principal.subject.encode("utf-8", "replace")),
            )  # fmt: skip
        return _Said(cell, exchange, line)

    def _more(self, exchange: Exchange) -> bytes:
        """The members that only some lines have."""
        line = b""
        if exchange.verdicts:
            line = _ALLOWED
            for verdict in exchange.verdicts:
                if not verdict.allowed and verdict.policy.mode == "enforce":
                    line = _REFUSED
        if exchange.upstream_start_mono:
            target = exchange.target
            line = b'%b,"upstream.duration_ms":%.3f,"upstream.target":"%b"' % (
                line,
                (upstream_end_mono(exchange) - exchange.upstream_start_mono) * 1000,
                target.id_octets if target is not None else b"",
            )
            if exchange.attempts > 1:
                line += b',"upstream.attempts":%d' % exchange.attempts
        if exchange.cache_result is not None:
            line += b',"cache.result":"%b"' % exchange.cache_result.encode("ascii")
        if exchange.error is not None:
            line += _error(exchange.error)
        if exchange.client_gone:
            line += b',"client.gone":true'
        return line

    def refusal(self, refusal: _Refusal) -> bytes:
        error, client_ip, request_id, at = refusal
        return b'%b,"request.id":"%b","client.address":%b,"http.response.status_code":%d%b}\n' % (
            self._time(at), request_id, orjson.dumps(client_ip), error.problem.status, _error(error),
        )  # fmt: skip


def _error(error: GatewayError) -> bytes:
    line = b',"error.type":"%b","error.at_fault":"%b"' % (error.problem.slug.encode(), error.problem.at_fault.encode())
    return b'%b,"error.message":%b' % (line, _json(error.internal)) if error.internal else line


class AccessLog:
    """`path` "-" is standard output. A file is opened for appending; it may be renamed away and `reopen`ed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = 1 if path == "-" else _open(path)
        self._encoder = Encoder()
        self.exchanges: list[tuple[Cell, Exchange, int]] = []
        """Finished ones, put here by the recorder, which bounds them by EXCHANGES_MAX."""
        self.refusals: list[_Refusal] = []
        self._blobs: deque[tuple[int, bytes]] = deque()
        self._lines_waiting = 0
        self._bytes_waiting = 0
        self._writer: gevent.Greenlet[[], None] | None = None
        self.dropped_total = 0

    def start(self) -> None:
        self._writer = gevent.spawn(self._write_forever)

    def stop(self) -> None:
        """Write what waits, then end. Blocks on the file."""
        if self._writer is not None:
            self._writer.kill()
            self._writer = None
        self.encode()
        self._write()

    def reopen(self) -> None:
        if self._path != "-":
            old, self._fd = self._fd, _open(self._path)
            os.close(old)

    def encode(self, most: int = EXCHANGES_MAX) -> None:
        """Turn what was held, so many exchanges of it, into lines for the writer."""
        exchanges, self.exchanges = self.exchanges[:most], self.exchanges[most:]
        refusals, self.refusals = self.refusals, []
        if not exchanges and not refusals:
            return
        encode = self._encoder.exchange
        lines = [encode(cell, exchange, status) for cell, exchange, status in exchanges]
        lines += [self._encoder.refusal(refusal) for refusal in refusals]
        blob = b"".join(lines)
        self._blobs.append((len(lines), blob))
        self._lines_waiting += len(lines)
        self._bytes_waiting += len(blob)
        while (self._lines_waiting > LINES_MAX or self._bytes_waiting > BYTES_MAX) and len(self._blobs) > 1:
            self.dropped_total += self._take()[0]

    def _take(self) -> tuple[int, bytes]:
        count, blob = self._blobs.popleft()
        self._lines_waiting -= count
        self._bytes_waiting -= len(blob)
        return count, blob

    def _write_forever(self) -> None:
        threadpool = gevent.get_hub().threadpool
        pending: object = None
        while True:
            for _ in range(_BATCHES_A_WRITE):
                gevent.sleep(BATCH_EVERY_S)
                for _ in range(len(self.exchanges) // _LINES_A_TURN):
                    self._encode_or_lose(_LINES_A_TURN)
                    gevent.sleep(0)
                self._encode_or_lose(EXCHANGES_MAX)
            if self._blobs and (pending is None or pending.ready()):  # type: ignore[attr-defined]
                pending = threadpool.spawn(self._write)

    def _encode_or_lose(self, most: int) -> None:
        try:
            self.encode(most)
        except Exception:  # a line that cannot be written must not be the last one
            _LOG.exception("a batch of the access log is lost")

    def _write(self) -> None:
        """Write all that waits; runs in a thread, because a pipe or a disk may make it wait."""
        while self._blobs:
            count, blob = self._take()
            while self._blobs and len(blob) < _WRITE_BYTES:
                more, behind = self._take()
                count, blob = count + more, blob + behind
            view = memoryview(blob)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError as error:
                self.dropped_total += count
                _LOG.warning("the access log cannot be written: %s", error)
                return


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
