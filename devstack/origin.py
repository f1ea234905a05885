"""The demo's origin: a small JSON service of our own words that answers like jsonplaceholder, and can be bent at will.

In:    requests on loopback: /posts /users /comments /todos /albums, /health, /anything, /slow, /status/{n}, /stream.
Out:   JSON with ETag and Cache-Control; writes are answered as if they had been kept, and are not.
Laws:  1. The same on every machine and at every start. 2. Everything a caller chooses is bounded: delay, size, count.
       3. Serves 127.0.0.1 only.
Not here: misbehaving origins for tests (tests/origins).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import gevent
from gevent.pywsgi import WSGIServer

from devstack.child import loopback_listener

Json = Any
Headers = list[tuple[str, str]]
Start = Callable[[str, Headers], Any]

BODY_BYTES_MAX = 1_000_000
DELAY_S_MAX = 30.0
CHUNKS_MAX = 1_000
_JSON = ("Content-Type", "application/json; charset=utf-8")
_REASONS = {200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 404: "Not Found"}

_PEOPLE = ("Ada Byron", "Grace Brewster", "Alan Mathison", "Edsger Wybe", "Barbara Huberman", "Donald Ervin",
           "Radia Joy", "Vinton Gray", "Frances Spence", "Katherine Coleman")  # fmt: skip
_CITIES = ("Harbour Point", "Old Mill", "Northgate", "Lower Fold", "Stonebridge")
_THINGS = ("gateway", "route", "cache", "token", "queue", "tunnel", "header", "origin", "limit", "probe", "socket")
_DEEDS = (
    "opens",
    "closes",
    "waits for",
    "forgets",
    "remembers",
    "measures",
    "forwards",
    "refuses",
    "retries",
    "drains",
)
_MOODS = ("quiet", "early", "narrow", "patient", "second", "steady", "bright", "distant", "plain", "warm")


def _pick(words: tuple[str, ...], *place: int) -> str:
    seed = hashlib.sha256(repr((words[0], place)).encode()).digest()
    return words[int.from_bytes(seed[:4], "big") % len(words)]


def _sentence(*place: int) -> str:
    mood, thing = _pick(_MOODS, 1, *place), _pick(_THINGS, 2, *place)
    return f"the {mood} {thing} {_pick(_DEEDS, 3, *place)} a {_pick(_MOODS, 4, *place)} {_pick(_THINGS, 5, *place)}"


def _email(name: str) -> str:
    return name.lower().replace(" ", ".") + "@demo-origin.example"


def _users() -> list[Json]:
    return [
        {
            "id": number,
            "name": name,
            "username": name.split()[0].lower(),
            "email": _email(name),
            "address": {"city": _pick(_CITIES, number), "zipcode": f"{10_000 + number * 37}"},
            "phone": f"+00 555 {1000 + number}",
            "website": f"{name.split()[0].lower()}.example",
            "company": {"name": f"{name.split()[-1]} & Daughters", "catchPhrase": _sentence(6, number)},
        }
        for number, name in enumerate(_PEOPLE, 1)
    ]


def _posts() -> list[Json]:
    return [
        {
            "userId": (number - 1) // 10 + 1,
            "id": number,
            "title": _sentence(7, number),
            "body": "\n".join(_sentence(8, number, line) for line in range(4)),
        }
        for number in range(1, 101)
    ]


def _comments() -> list[Json]:
    return [
        {
            "postId": (number - 1) // 5 + 1,
            "id": number,
            "name": _sentence(9, number),
            "email": _email(_pick(_PEOPLE, number)),
            "body": "\n".join(_sentence(10, number, line) for line in range(3)),
        }
        for number in range(1, 501)
    ]


COLLECTIONS: dict[str, list[Json]] = {
    "users": _users(),
    "posts": _posts(),
    "comments": _comments(),
    "todos": [
        {"userId": (n - 1) // 20 + 1, "id": n, "title": _sentence(11, n), "completed": n % 3 == 0}
        for n in range(1, 201)
    ],
    "albums": [{"userId": (n - 1) // 10 + 1, "id": n, "title": _sentence(12, n)} for n in range(1, 101)],
}
_PARENTS = {"posts": "postId", "users": "userId"}


class Request:
    """One request, its body read and bounded."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ.get("PATH_INFO", "/").rstrip("/") or "/"
        self.query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        self.headers = {
            name[5:].replace("_", "-").title(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if environ.get(name):
                self.headers[name.replace("_", "-").title()] = environ[name]
        self.client: str = environ.get("REMOTE_ADDR", "")
        self.body: bytes = environ["wsgi.input"].read(BODY_BYTES_MAX + 1)

    def number(self, name: str, default: float, most: float) -> float:
        try:
            return min(max(float(self.query.get(name, default)), 0.0), most)
        except ValueError:
            return default


class Answer:
    def __init__(self, status: int, body: Json | Iterable[bytes] = None, headers: Headers | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or []


def application(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    try:
        request = Request(environ)
    except OSError:  # its client broke off in the middle: nobody reads what is said now
        start(_status_line(400), [("Connection", "close"), ("Content-Length", "0")])
        return [b""]
    if len(request.body) > BODY_BYTES_MAX:
        answer = Answer(413, {"error": f"a body may have {BODY_BYTES_MAX} bytes"})
    else:
        answer = next((found for handler in _HANDLERS if (found := handler(request)) is not None), Answer(404, {}))
    if isinstance(answer.body, Iterator):
        start(_status_line(answer.status), answer.headers)
        return answer.body
    return _send_json(request, answer, start)


def _send_json(request: Request, answer: Answer, start: Start) -> Iterable[bytes]:
    if answer.status in (204, 304) or answer.status < 200:
        start(_status_line(answer.status), answer.headers)
        return [b""]
    content = json.dumps(answer.body, indent=2).encode() + b"\n"
    headers = [_JSON, *answer.headers]
    if request.method in ("GET", "HEAD") and answer.status == 200 and not answer.headers:
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers += [("ETag", tag), ("Cache-Control", "public, max-age=300")]
        if request.headers.get("If-None-Match") in (tag, "*"):
            start(_status_line(304), headers[1:])
            return [b""]
    start(_status_line(answer.status), [*headers, ("Content-Length", str(len(content)))])
    return [b"" if request.method == "HEAD" else content]


def _status_line(status: int) -> str:
    return f"{status} {_REASONS.get(status, 'Answer')}"


def _collection(request: Request) -> Answer | None:
    match = re.fullmatch(r"/(\w+)(?:/(\d{1,6})(?:/(\w+))?)?", request.path)
    if match is None or match[1] not in COLLECTIONS:
        return None
    rows, row_id, child = COLLECTIONS[match[1]], match[2], match[3]
    if child is not None:
        return _children(match[1], int(row_id), child)
    if row_id is None:
        return _list_or_create(request, rows)
    row = rows[int(row_id) - 1] if 1 <= int(row_id) <= len(rows) else None
    return Answer(404, {}) if row is None else _one(request, row)


def _children(parent: str, row_id: int, child: str) -> Answer:
    column = _PARENTS.get(parent, "")
    if child not in COLLECTIONS or column not in COLLECTIONS[child][0]:
        return Answer(404, {})
    return Answer(200, [row for row in COLLECTIONS[child] if row[column] == row_id])


def _list_or_create(request: Request, rows: list[Json]) -> Answer:
    if request.method in ("GET", "HEAD"):
        wanted = {name: value for name, value in request.query.items() if name in rows[0]}
        return Answer(200, [row for row in rows if all(str(row[name]) == value for name, value in wanted.items())])
    if request.method == "POST":
        sent = _sent(request)
        if sent is None:
            return Answer(400, {"error": "send a JSON object"})
        return Answer(201, {**sent, "id": len(rows) + 1}, [("Location", f"{request.path}/{len(rows) + 1}")])
    return Answer(404, {})


def _one(request: Request, row: Json) -> Answer:
    if request.method in ("GET", "HEAD"):
        return Answer(200, row)
    if request.method == "DELETE":
        return Answer(200, {})
    if request.method in ("PUT", "PATCH"):
        sent = _sent(request)
        if sent is None:
            return Answer(400, {"error": "send a JSON object"})
        return Answer(200, {**(row if request.method == "PATCH" else {}), **sent, "id": row["id"]})
    return Answer(404, {})


def _sent(request: Request) -> Json | None:
    if not request.body:
        return {}
    try:
        sent = json.loads(request.body)
    except ValueError:
        return dict(parse_qsl(request.body.decode("utf-8", "replace"))) or None
    return sent if isinstance(sent, dict) else None


def _health(request: Request) -> Answer | None:
    return Answer(200, {"status": "ok"}, [("Cache-Control", "no-store")]) if request.path == "/health" else None


def _anything(request: Request) -> Answer | None:
    """Show the request as it arrived: what the edge forwards, and what it does not."""
    if request.path != "/anything" and not request.path.startswith("/anything/"):
        return None
    said = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers,
        "client": request.client,
        "body": request.body.decode("utf-8", "replace"),
    }
    return Answer(200, said, [("Cache-Control", "no-store")])


def _slow(request: Request) -> Answer | None:
    if request.path != "/slow":
        return None
    delay_s = request.number("s", 1.0, DELAY_S_MAX)
    gevent.sleep(delay_s)
    return Answer(200, {"waited_s": delay_s}, [("Cache-Control", "no-store")])


def _status(request: Request) -> Answer | None:
    match = re.fullmatch(r"/status/([2-5]\d\d)", request.path)
    return Answer(int(match[1]), {"status": int(match[1])}, [("Cache-Control", "no-store")]) if match else None


def _stream(request: Request) -> Answer | None:
    """Send lines with pauses and no Content-Length: ?count=5&every=0.2 (seconds)."""
    if request.path != "/stream":
        return None
    count, every_s = int(request.number("count", 5, CHUNKS_MAX)), request.number("every", 0.2, 5.0)

    def lines() -> Iterator[bytes]:
        for number in range(1, count + 1):
            if number > 1:
                gevent.sleep(every_s)
            yield json.dumps({"line": number, "of": count}).encode() + b"\n"

    return Answer(200, lines(), [("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-store")])


def _index(request: Request) -> Answer | None:
    if request.path != "/":
        return None
    return Answer(200, {"collections": {name: f"/{name}" for name in COLLECTIONS}, "see": ["/anything", "/slow?s=1"]})


_HANDLERS: tuple[Callable[[Request], Answer | None], ...] = (
    _collection, _health, _anything, _slow, _status, _stream, _index,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="devstack.origin", description="The demo's origin, on loopback only.")
    parser.add_argument("--port", type=int, default=8082)
    port = parser.parse_args().port
    gevent.signal_handler(signal.SIGTERM, sys.exit, 0)
    try:
        WSGIServer(loopback_listener(port), application, log=None).serve_forever()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"the demo's origin did not start: {error}")


if __name__ == "__main__":
    main()
