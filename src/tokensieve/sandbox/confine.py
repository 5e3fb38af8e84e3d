"""Putting the sandbox's parent process behind walls: namespaces where the kernel lets us, else Landlock.

Runs in the sandbox's own interpreter, once, before any program; needs nothing but the standard library.
"""

import ctypes
import os
import signal
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

SCRATCH = "/scratch"
NOBODY = 65534
"""The unprivileged uid and gid that programs run as; as a normal user it is that user's own id seen from inside."""

_NEW_MOUNTS, _NEW_CGROUPS, _NEW_UTS, _NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEW_USERS, _NEW_PIDS, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_DUMPABLE = 1, 24, 4
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK = 444

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The kernel, or the container around us, does not grant a wall; says which."""


def call(name: str, result: int) -> int:
    """Check a C call's result.

    Raises:
        Refused: it is negative.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise Refused(f"{name}: {os.strerror(number)}")
    return result


def enter_namespaces() -> int:
    """Move into new user, mount, network, IPC, host-name, cgroup and pid namespaces; return the pid namespace's fd.

    Returns in a child of the caller, which is process 1 of the new pid namespace; the caller itself stays
    behind until that child ends, and ends with it.

    Raises:
        Refused: the kernel does not allow it here.
    """
    uid, gid = os.geteuid(), os.getegid()
    ready, unshared = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(unshared)
        # A namespace's ids can only be mapped in full from outside; the byte says that it is there.
        os._exit(0 if os.read(ready, 1) and _map_ids(os.getppid(), uid, gid) else 1)
    os.close(ready)
    flags = _NEW_USERS | _NEW_MOUNTS | _NEW_NET | _NEW_IPC | _NEW_UTS | _NEW_CGROUPS | _NEW_PIDS
    failed = _libc.unshare(flags) < 0
    problem = os.strerror(ctypes.get_errno())
    if not failed:
        os.write(unshared, b"x")
    os.close(unshared)
    mapped = os.waitpid(helper, 0)[1] == 0
    if failed or not mapped:
        raise Refused(f"namespaces: {problem if failed else 'user ids could not be mapped'}")
    child = os.fork()
    if child:
        _wait_and_follow(child)
    die_with_parent()
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def build_root(root: str, visible: Sequence[str]) -> None:
    """Make an almost empty file system the root: the interpreter's folders read-only, four devices, a scratch folder.

    Args:
        root: an empty folder to build it on.
        visible: files and folders to show, read-only, at their own paths.

    Raises:
        Refused: a mount is not allowed.
    """
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in visible:
        _show(root, path, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV)
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        _show(root, device, _ATTR_NOSUID)
    Path(root + SCRATCH).mkdir()
    os.chdir(root)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    call("pivot_root", _libc.syscall(number, b".", b"."))
    call("umount", _libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")
    _set_attributes("/", _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, recursive=False)
    socket.sethostname("sandbox")


def fresh_scratch(size_mb: int, *, replace: bool) -> None:
    """Mount an empty scratch folder of this size, in place of the last program's where there was one."""
    if replace:
        os.chdir("/")
        call("umount", _libc.umount2(SCRATCH.encode(), _MNT_DETACH))
    options = f"size={size_mb}m,nr_inodes=4096,mode=700,uid={NOBODY},gid={NOBODY}"
    _mount("tmpfs", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.chdir(SCRATCH)


def next_fork_gets_own_pids(own_namespace: int) -> None:
    """The next fork's child becomes process 1 of a new pid namespace: when it ends, all in there are killed."""
    call("setns", _libc.setns(own_namespace, _NEW_PIDS))
    call("unshare", _libc.unshare(_NEW_PIDS))


def restrict_files(visible: Sequence[str], scratch: str) -> None:
    """Landlock: from now on only these paths can be read, and only the scratch folder written.

    Raises:
        Refused: the kernel has no Landlock, or one that does not know truncation (before Linux 6.2).
    """
    version = _libc.syscall(_SYS_LANDLOCK, None, 0, 1)
    if version < 3:
        raise Refused("Landlock: this kernel has none, or one before Linux 6.2")
    rights = (1 << 15) - 1 | (1 << 15 if version >= 5 else 0)
    reading = 1 << 2 | 1 << 3
    network = 3 if version >= 4 else 0
    scopes = 3 if version >= 6 else 0
    attributes = struct.pack("QQQ", rights, network, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = call("Landlock", _libc.syscall(_SYS_LANDLOCK, attributes, len(attributes), 0))
    allowed = [(path, reading) for path in (*visible, "/dev/zero", "/dev/random", "/dev/urandom")]
    # No devices, sockets or pipes in the scratch folder, and nothing moved out of it.
    writing = rights & ~(1 << 0 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 15)
    for path, right in [*allowed, ("/dev/null", reading | 1 << 1), (scratch, writing)]:
        folder = Path(path).is_dir()
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", right if folder else right & (1 << 1 | 1 << 2 | 1 << 14), fd)
        call("Landlock", _libc.syscall(_SYS_LANDLOCK + 1, ruleset, 1, rule, 0))
        os.close(fd)
    call("prctl", _libc.prctl(38, 1, 0, 0, 0))
    call("Landlock", _libc.syscall(_SYS_LANDLOCK + 2, ruleset, 0))
    os.close(ruleset)


def become_nobody() -> None:
    """Become an unprivileged user for good where the process is root, which no process limit binds.

    Raises:
        Refused: root without the right to change its uid.
    """
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        raise Refused(f"root could not become an unprivileged user: {error.strerror}") from error


def anyone_can_reach(paths: Sequence[str]) -> bool:
    """True where an unprivileged user can reach these paths, by the modes of the folders above them."""
    above = {folder for path in paths for folder in Path(path).parents}
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in above)


def drop_capabilities() -> None:
    """Give up every capability, also those that a user namespace gave."""
    header = struct.pack("Ii", 0x20080522, 0)
    call("capset", _libc.syscall(_SYS_CAPSET[os.uname().machine], header, bytes(24)))
    call("prctl", _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def forget_c_library() -> None:
    """Leave no way to call C functions for the program that runs next in this process."""
    global _libc
    del _libc


def die_with_parent() -> None:
    """Be killed when the process that forked this one ends, however it ends."""
    call("prctl", _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))


def _map_ids(pid: int, uid: int, gid: int) -> bool:
    root = uid == 0
    try:
        Path(f"/proc/{pid}/setgroups").write_text("allow" if root else "deny")
        for name, own in (("uid_map", uid), ("gid_map", gid)):
            lines = f"0 0 1\n{NOBODY} {NOBODY} 1\n" if root else f"{NOBODY} {own} 1\n"
            Path(f"/proc/{pid}/{name}").write_text(lines)
    except OSError:
        return False
    return True


def _wait_and_follow(child: int) -> None:
    """Hold no pipe, wait for the child, end as it did."""
    os.closerange(0, 1024)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _show(root: str, path: str, attributes: int) -> None:
    target = Path(root + path)
    if Path(path).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(path, str(target), None, _MS_BIND | _MS_REC)
    _set_attributes(str(target), attributes, recursive=True)


def _set_attributes(path: str, attributes: int, *, recursive: bool) -> None:
    packed = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    result = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, packed, len(packed))
    call(f"mount_setattr {path}", result)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    call(f"mount {target}", result)
