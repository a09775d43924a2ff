"""Whether a port or socket of this host that a machine needs is free, and who uses it if not."""

import errno
import ipaddress
import os
import shlex
import socket
import stat

from ...errors import DriverError, HostError

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def check_socket(path: str) -> None:
    """Raise DriverError when `path` must not be replaced: it is no socket, or a program listens on it.

    ssh removes what is there before it binds (StreamLocalBindUnlink), without asking.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise DriverError(
            f"hostSocket {path} exists and is not a socket; it was not replaced",
            hint=f"mv {shlex.quote(path)} {shlex.quote(path + '.old')}",
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        if probe.connect_ex(path) in (0, errno.EAGAIN):
            raise DriverError(f"hostSocket {path} is in use: another program listens on it")


def check_free(ip: str, port: int, proto: str = "tcp") -> None:
    """Raise DriverError naming the owner when `port` of `ip` is taken, HostError when only root may listen there."""
    problem = _problem(ip, port, proto)
    if problem == errno.EADDRINUSE:
        raise DriverError(f"{proto} port {port} of {ip} is taken by {_owner(port, proto)}")
    if problem in (errno.EACCES, errno.EPERM):
        raise HostError(
            f"{proto} port {port} of {ip} is for root only", hint=f"sysctl net.ipv4.ip_unprivileged_port_start={port}"
        )
    if problem:
        raise DriverError(f"cannot listen on {proto} port {port} of {ip}: {os.strerror(problem)}")


def free(port: int, ip: str = "127.0.0.1") -> bool:
    """True when QEMU could listen on TCP `port` of `ip`."""
    return _problem(ip, port, "tcp") == 0


def _problem(ip: str, port: int, proto: str) -> int:
    """Return why listening there fails (errno), or 0; tried as QEMU does, which ignores TIME_WAIT."""
    with socket.socket(family(ip), _KINDS[proto]) as probe:
        if proto == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
            if proto == "tcp":
                probe.listen(1)
        except OSError as err:
            return err.errno or errno.EINVAL
    return 0


def family(ip: str) -> socket.AddressFamily:
    """Return the family of the address `ip`, which is one of IPv4 or IPv6."""
    return socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET  # noqa: PLR2004 - its name


def _owner(port: int, proto: str) -> str:
    """Return who listens on `port`: `python3 (pid 4711)`. The kernel shows other users' processes to root only."""
    import psutil

    for connection in psutil.net_connections(proto):
        listens = proto == "udp" or connection.status == psutil.CONN_LISTEN
        if listens and connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                break
    return "another user's process"
