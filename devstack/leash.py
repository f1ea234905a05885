"""Become another program that ends when its launcher does, and that is not root when it must not be.

In:    argv: <parent pid> <signal number> <keep|namespace|account> <program> <arguments...>. Run as a script.
Out:   this process becomes the program (same pid), or exits with 111 and one line.
Laws:  1. Only the standard library's cheapest modules: this runs at each start of a server. 2. The order is drop, then
       leash, then exec: a change of identity clears the leash. 3. A launcher already gone means no start at all.
Not here: who is started and when (devstack.child).
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def enter_namespace() -> None:
    """Stay the same account for the kernel's files, yet be seen as `nobody`: what PostgreSQL refuses is only uid 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib would double the start-up
            file.write(text)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def leash(parent: int, signal_number: int) -> None:
    """Ask the kernel for a signal at the launcher's death (Linux; elsewhere the next start finds what is left)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(111)


def main() -> None:
    parent, signal_number, drop, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    try:
        if drop == "namespace":
            enter_namespace()
        elif drop == "account":
            become_nobody()
        leash(parent, signal_number)
        os.execv(program, sys.argv[4:])  # noqa: S606 - this is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot start {program}: {error.strerror}\n")
        sys.exit(111)


if __name__ == "__main__":
    main()
