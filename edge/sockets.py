"""The listening sockets of a host: made by the first parent, dealt out to workers, handed from parent to parent.

In:    places (a setting's name, an address, a port), a number of workers, what an older parent left in the environment.
Out:   named lists of bound, listening sockets; StartError in one line that names the setting.
Laws:  1. A spread place has at least one socket per worker (SO_REUSEPORT); the kernel spreads connections over those
       that listen. One that joins a host while it serves listens only when a worker accepts from it (server): else
       clients would wait where nobody comes.
       2. A socket that was opened stays open as long as the host serves: closing one of several would reset whoever
       waits in its queue. Those that are more than workers are served by all workers. 3. What is inherited is checked
       (a listening TCP socket, bound where it is said to be) before it is used.
Not here: when a parent hands over (parent), accepting (net.listener).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "VANTAGEEDGE_INHERITED"
"""Where a parent tells its successor what it inherits. For one process, by its id; never set by hand."""
BACKLOG: Final = 2_048
_SO_ATTACH_FILTER: Final = 26  # Linux's number; the socket module does not name it
_NO_NEW_SYN: Final = (
    # A classic BPF program over the TCP header: a segment with SYN and without ACK is dropped, all others pass.
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFF_FFFF),
)


class StartError(Exception):
    """The edge cannot start; the text is one line that names the setting."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen. `setting` names its port, and the list of its sockets; `spread`: one socket per worker."""

    setting: str
    address: str
    port: int
    spread: bool

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Inherited:
    """What an older parent hands over: its sockets by setting, and the folder of the workers' numbers."""

    sockets: Mapping[str, Sequence[socket.socket]]
    folder: Path


class Sockets:
    """Every listening socket of this parent, by the setting that names its place."""

    def __init__(self, places: Iterable[Place], workers: int, inherited: Inherited | None = None) -> None:
        """Take the ports, or take them over. Raises StartError naming the setting."""
        self.places: Final = tuple(places)
        self._lists: dict[str, list[socket.socket]] = {}
        left = {setting: list(sockets) for setting, sockets in inherited.sockets.items()} if inherited else {}
        try:
            for place in self.places:
                if place.setting in left and all(_is_at(sock, place) for sock in left[place.setting]):
                    self._lists[place.setting] = left.pop(place.setting)
                else:  # a changed port is taken anew; the older parent goes on with the old one
                    _require_free(place)
                    self._lists[place.setting] = []
            self.grow(workers)
            self._listen(lambda place: inherited is None or not place.spread)
        except BaseException:
            self.close()
            raise
        finally:
            for sock in (sock for sockets in left.values() for sock in sockets):
                sock.close()

    def __repr__(self) -> str:
        return f"<Sockets {' '.join(f'{setting}={len(sockets)}' for setting, sockets in self._lists.items())}>"

    @property
    def all(self) -> list[socket.socket]:
        return [sock for sockets in self._lists.values() for sock in sockets]

    def grow(self, workers: int) -> None:
        """Have enough sockets for so many workers; they do not listen yet. Raises StartError."""
        for place in self.places:
            sockets = self._lists[place.setting]
            while len(sockets) < (workers if place.spread else 1):
                try:
                    sockets.append(_bound(place))
                except OSError as error:
                    raise _refusal(place, error) from None

    def _listen(self, wanted: Callable[[Place], bool]) -> None:
        for place in filter(wanted, self.places):
            try:
                for sock in self._lists[place.setting]:
                    sock.listen(BACKLOG)
            except OSError as error:
                raise _refusal(place, error) from None

    def dealt(self, slot: int, workers: int) -> dict[str, list[socket.socket]]:
        """Give what worker number `slot` of so many accepts from: its own socket and those that are nobody's own."""
        return {
            place.setting: [self._lists[place.setting][slot], *self._lists[place.setting][workers:]]
            if place.spread
            else list(self._lists[place.setting])
            for place in self.places
        }

    def hand_over(self, folder: Path) -> str:
        """Give VARIABLE's value for the program that this process is about to become (exec keeps descriptors)."""
        lists = {}
        for setting, every in self._lists.items():
            sockets = [sock for sock in every if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
            address, port = every[0].getsockname()[:2]
            lists[setting] = {"address": address, "port": port, "descriptors": [sock.fileno() for sock in sockets]}
            for sock in sockets:
                sock.set_inheritable(True)
        return json.dumps({"pid": os.getpid(), "folder": str(folder), "sockets": lists})

    def let_nobody_begin(self) -> bool:
        """Have the kernel ignore new connections while handshakes under way are completed; False where it cannot.

        Who connects between a worker's last accept and its close would be reset after having been told that the
        connection stands. Ignored, they try again after a second, and are refused. For every process on these sockets.
        """
        if sys.platform != "linux":
            return False
        program = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *step) for step in _NO_NEW_SYN))
        option = struct.pack("@HP", len(_NO_NEW_SYN), ctypes.addressof(program))
        try:
            for place in self.places:
                for sock in self._lists[place.setting] if place.spread else ():
                    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
        except OSError:
            return False
        return True

    def close(self) -> None:
        for sock in self.all:
            sock.close()
        self._lists.clear()


def inherit(text: str) -> Inherited:
    """Read VARIABLE and check every descriptor it names. Raises StartError."""
    try:
        told: Any = json.loads(text)
        pid, folder, lists = int(told["pid"]), Path(told["folder"]), dict(told["sockets"])
        wanted = [
            (str(setting), int(number), (str(entry["address"]), int(entry["port"])))
            for setting, entry in lists.items()
            for number in entry["descriptors"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StartError(f"{VARIABLE}: is not what a parent leaves its successor; start without it") from None
    if pid != os.getpid():
        raise StartError(f"{VARIABLE}: was left for process {pid}, not for this one; start without it")
    if not folder.is_dir():
        raise StartError(f"{VARIABLE}: the folder {folder} is not there")
    sockets: dict[str, list[socket.socket]] = {setting: [] for setting in lists}
    for setting, number, bound_to in wanted:
        sockets[setting].append(_adopted(setting, number, bound_to))
    return Inherited(sockets, folder)


def _adopted(setting: str, number: int, bound_to: tuple[str, int]) -> socket.socket:
    wrong = f"{VARIABLE}: descriptor {number} for {setting}"
    if number < 3:
        raise StartError(f"{wrong} is a standard stream")
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise StartError(f"{wrong} is no socket: {error.strerror}") from None
    try:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        found = sock.getsockname()[:2] if sock.family in (socket.AF_INET, socket.AF_INET6) else ()
    except OSError as error:
        sock.detach()
        raise StartError(f"{wrong} cannot be looked at: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not listens or found != bound_to:
        sock.detach()  # it is somebody's, not ours to close
        raise StartError(f"{wrong} does not listen on {bound_to[0]} port {bound_to[1]}")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _is_at(sock: socket.socket, place: Place) -> bool:
    address, port = sock.getsockname()[:2]
    return bool(ip_address(address) == ip_address(place.address) and port == place.port)


def _require_free(place: Place) -> None:
    """SO_REUSEPORT would quietly share the port with another program of the same user: ask without it first."""
    try:
        with contextlib.closing(socket.socket(place.family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place.address, place.port))
    except OSError as error:
        raise _refusal(place, error) from None


def _bound(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.spread:  # also the first one: a later worker's socket could not join it otherwise
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((place.address, place.port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _refusal(place: Place, error: OSError) -> StartError:
    return StartError(f"{place.setting}: cannot listen on {place.address} port {place.port}: {error.strerror}")
