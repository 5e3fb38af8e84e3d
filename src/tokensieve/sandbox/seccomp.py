"""A seccomp filter, built by hand: which system calls a sandboxed program is refused.

The filter refuses what a checked program has no business with (other programs, sockets, namespaces, mounts, other
processes, kernel facilities with a history of holes) with ``EPERM``, so that a program sees an ordinary error and
the run goes on. It runs in the kernel on every system call of the program and cannot be taken off.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Sequence
from functools import lru_cache

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW = 0x7FFF0000
_RET_ERRNO = 0x00050000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR_OFFSET, _ARCH_OFFSET, _ARG0_OFFSET = 0, 4, 16
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_PR_SET_PDEATHSIG = 1

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

# Numbers by machine; -1 where the machine has no such call.
_NUMBERS: dict[str, tuple[int, int]] = {
    # name: (x86_64, aarch64)
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, -1),
    "vfork": (58, -1),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
}

_REFUSED: dict[str, tuple[int, int]] = {
    # other programs, other processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # the network (socketpair stays: event loops use it, and it reaches nobody)
    "socket": (41, 198),
    # memory that outlives a process or escapes RLIMIT_AS
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # namespaces, mounts, roots
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    # kernel facilities
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "personality": (135, 92),
    "modify_ldt": (154, -1),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "lookup_dcookie": (212, 18),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "vhangup": (153, 58),
}

# Landlock does not watch over a file's metadata, so without a mount namespace these are refused too.
_METADATA: dict[str, tuple[int, int]] = {
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, -1),
    "fchown": (93, 55),
    "lchown": (94, -1),
    "fchownat": (260, 54),
    "utime": (132, -1),
    "utimes": (235, -1),
    "futimesat": (261, -1),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}

_Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """True where the filter knows this machine's system call numbers (x86-64 and 64-bit ARM)."""
    return platform.machine() in _ARCHITECTURES


@lru_cache(maxsize=8)
def program(*, own_pid: int, may_fork: bool, own_namespaces: bool) -> bytes:
    """The filter as the kernel takes it: 8 bytes an instruction.

    Args:
        own_pid: the process that will carry it, in its own pid namespace: the only one it may signal.
        may_fork: whether it may start processes, which takes namespaces of its own.
        own_namespaces: True in user, pid and mount namespaces of its own, where signals reach none but its own,
            a file's metadata is nobody else's and threads can be counted; False where the filter must see to it.
    """
    column = list(_ARCHITECTURES).index(platform.machine())
    number = {name: numbers[column] for name, numbers in _NUMBERS.items()}
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_IF_EQUAL, 1, 0, _ARCHITECTURES[platform.machine()]),
        _refuse(errno.ENOSYS),
        (_LOAD, 0, 0, _NR_OFFSET),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        _refuse(errno.ENOSYS),
    ]
    # The C library falls back to clone, whose flags a filter can read; those of clone3 it cannot.
    code += _when(number["clone3"], [_refuse(errno.ENOSYS)])
    code += _when(number["clone"], _clone_rule(may_fork=may_fork, may_thread=own_namespaces))
    if not may_fork:
        code += _when(number["fork"], [_refuse()]) + _when(number["vfork"], [_refuse()])
    code += _when(number["prlimit64"], _unless_argument(0, own_pid))
    code += _when(number["prctl"], [(_LOAD, 0, 0, _ARG0_OFFSET), (_IF_EQUAL, 0, 1, _PR_SET_PDEATHSIG), *_ends()])
    refused = [numbers[column] for numbers in _REFUSED.values()]
    if not own_namespaces:
        refused += [numbers[column] for numbers in _METADATA.values()]
        for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            code += _when(number[name], _unless_argument(own_pid))
    for refused_number in refused:
        code += _when(refused_number, [_refuse()])
    code.append((_RETURN, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install(filter_program: bytes) -> None:
    """Put the filter on this thread and all it will ever start; needs no privilege and cannot be undone.

    Raises:
        OSError: the kernel refuses.
    """

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    description = _Program(len(filter_program) // 8, filter_program)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(description), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def _refuse(error: int = errno.EPERM) -> _Instruction:
    return (_RETURN, 0, 0, _RET_ERRNO | error)


def _ends() -> list[_Instruction]:
    return [_refuse(), (_RETURN, 0, 0, _RET_ALLOW)]


def _when(number: int, block: Sequence[_Instruction]) -> list[_Instruction]:
    """A block that runs for one system call; it must end in a return, since it may overwrite the accumulator."""
    if number < 0:
        return []
    return [(_IF_EQUAL, 0, len(block), number), *block]


def _unless_argument(*allowed: int) -> list[_Instruction]:
    """Allow the call where its first argument is one of these, refuse it otherwise."""
    code: list[_Instruction] = [(_LOAD, 0, 0, _ARG0_OFFSET)]
    for place, value in enumerate(allowed):
        code.append((_IF_EQUAL, len(allowed) - place, 0, value))
    return [*code, *_ends()]


def _clone_rule(*, may_fork: bool, may_thread: bool) -> list[_Instruction]:
    load: _Instruction = (_LOAD, 0, 0, _ARG0_OFFSET)
    if may_fork:
        return [load, (_IF_ANY_BIT, 0, 1, _CLONE_NAMESPACES), *_ends()]
    if may_thread:
        return [load, (_IF_ANY_BIT, 1, 0, _CLONE_THREAD), *_ends()]
    return [_refuse()]
