"""Protocol between host and sandbox: one JSON object a line, over pipes that no program sees."""

from typing import NotRequired, TypedDict

from tokensieve.sandbox.limits import Limits


class Config(TypedDict):
    """Start-up configuration of a confined parent: isolation, pipes, visible paths, modules to load beforehand."""

    isolation: str
    visible: list[str]
    folder: str
    requests: int
    answers: int
    site: list[str]
    preload: list[str]


class LimitFields(TypedDict):
    """The fields of ``Limits``."""

    wall_s: float
    cpu_s: float
    memory_mb: int
    output_kb: int
    file_mb: int
    processes: int
    rows: int


class SandboxRequest(TypedDict):
    """One program: Python in parts, the checker's own from ``checks_from`` on; or a query with a path or a script."""

    limits: LimitFields
    parts: NotRequired[list[str]]
    checks_from: NotRequired[int | None]
    own_equality: NotRequired[bool]
    query: NotRequired[str]
    database: NotRequired[str | None]
    script: NotRequired[str | None]


class Answer(TypedDict):
    """Result of a program, as its parent saw it.

    ``proved`` tells that the report began with the nonce, the process ended by itself with status 0, and no limit
    was broken; ``report`` is what follows the nonce, or whatever else the program's process sent.
    """

    proved: bool
    report: str
    stopped: str
    status: int
    cpu_s: float
    wall_s: float
    stdout: str
    stderr: str


def limit_fields(limits: Limits) -> LimitFields:
    """The limits as they travel."""
    return {
        "wall_s": limits.wall_s,
        "cpu_s": limits.cpu_s,
        "memory_mb": limits.memory_mb,
        "output_kb": limits.output_kb,
        "file_mb": limits.file_mb,
        "processes": limits.processes,
        "rows": limits.rows,
    }
