"""A real sshd on loopback, and a real ssh that knows it as ``device``."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
MISSING = "no sshd here: install OpenSSH's server to run these tests"
SERVER = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
"""
CLIENT = """\
Host device
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/client
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  StrictHostKeyChecking yes
"""


def available() -> bool:
    """Whether there are a server and a client."""
    return Path(SSHD).is_file() and shutil.which("ssh") is not None


@contextmanager
def running(folder: Path, *, address: str = "127.0.0.1", within: Sequence[str] = ()) -> Iterator[Path]:
    """A folder for PATH, whose ``ssh`` is the system's with a configuration of its own.

    The server listens on ``address``; ``within`` is what it is started with.
    """
    port = _free_port()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    host = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[{address}]:{port} {' '.join(host)}\n")
    (folder / "sshd_config").write_text(SERVER.format(port=port, folder=folder, address=address))
    (folder / "ssh_config").write_text(CLIENT.format(port=port, folder=folder, user=getpass.getuser(), address=address))
    path = folder / "bin"
    path.mkdir()
    (path / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    (path / "ssh").chmod(0o755)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the server of root wants it
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*within, SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_for(address, port)
        yield path
    finally:
        for one in psutil.Process(server.pid).children(recursive=True):  # of a link that is gone they hear nothing
            with suppress(psutil.NoSuchProcess):
                one.kill()
        server.terminate()
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("sshd does not listen")
