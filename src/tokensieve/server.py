"""OpenAI-compatible servers: a sound address, a client with timeouts and retries, and errors that say what broke."""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from tokensieve.errors import InputError
from tokensieve.types import JSON

if TYPE_CHECKING:
    from openai import OpenAI

A = TypeVar("A", bound=BaseModel)

_NO_KEY: Final = "no key"
"""Stands for no key, since the client takes neither None nor an empty one."""


class NoAnswer(ConnectionError):
    """The server cannot be reached, or broke off before its answer was whole."""


class Refused(Exception):
    """The server answers with an error status.

    Attributes:
        status: of HTTP.
        text: what it says, up to 500 characters.
        tries: of the request, the first one among them.
    """

    def __init__(self, status: int, text: str, tries: int = 1) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status
        self.text = text
        self.tries = tries


def sound_address(url: str, where: str) -> str:
    """A server's base address, without a slash at its end.

    Args:
        url: as the user gave it.
        where: the option that it came from.

    Raises:
        InputError: it is no address of HTTP.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half a bracket
        sound = False
    if not sound:
        raise InputError(f"expected an address such as http://localhost:8000/v1, got {url!r}", where=where)
    return url.rstrip("/")


def key_of(variable: str) -> str | None:
    """The key that an environment variable holds, without white space around it; None where there is none.

    Raises:
        InputError: it cannot stand in a header of HTTP (a library's own message would print it).
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError("the key holds line breaks or characters beyond ASCII", where=variable, fix=f"set {variable}")
    return key or None


def open_client(
    address: str,
    *,
    key: str | None = None,
    retries: int = 0,
    timeout_s: float,
    before_try: Callable[[], None] | None = None,
) -> "OpenAI":
    """Open a client, to be closed after use; threads may share it.

    It asks again where a server is busy (408, 409, 429, 500 and above) or breaks off, after a growing pause or the one
    of ``Retry-After``; one above two minutes is not waited for.

    Args:
        address: as ``sound_address`` gives it.
        key: sent as a bearer token; None sends none.
        retries: further tries of a request.
        timeout_s: longest wait for the next bytes, seconds.
        before_try: called before each try.
    """
    # Imported here: it takes a second, and only servers need it.
    from openai import DefaultHttpxClient, OpenAI

    hooks = [] if before_try is None else [lambda _: before_try()]
    http = DefaultHttpxClient(event_hooks={"request": hooks})
    return OpenAI(base_url=address, api_key=key or _NO_KEY, max_retries=retries, timeout=timeout_s, http_client=http)


def ask(client: "OpenAI", path: str, content: JSON = None) -> dict[str, JSON]:
    """The JSON object that a server answers; a POST where there is content.

    Args:
        client: of ``open_client``.
        path: behind the server's address, from its slash on.
        content: what is sent, as JSON.

    Raises:
        Refused: the server refuses, after the client's tries where it is busy.
        NoAnswer: it cannot be reached, or broke off, each time.
        InputError: it answers with something else than a JSON object.
    """
    from openai import APIConnectionError, APIStatusError, Omit

    # The client would send OpenAI's organisation and project to any server.
    headers: dict[str, str | Omit] = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
    if client.api_key == _NO_KEY:
        headers["Authorization"] = Omit()
    where = f"{str(client.base_url).rstrip('/')}{path}"
    try:
        if content is None:
            answer = client.get(path, cast_to=object, options={"headers": headers})
        else:
            answer = client.post(path, cast_to=object, body=content, options={"headers": headers})
        # The client leaves an answer as text where the server does not call it JSON.
        value = json.loads(answer) if isinstance(answer, str) else answer
    except APIStatusError as error:
        again = int(error.response.request.headers.get("x-stainless-retry-count", 0))
        raise Refused(error.status_code, error.response.text[:500], again + 1) from None
    except APIConnectionError as error:
        cause = error.__cause__ or error
        raise NoAnswer(str(cause) or type(cause).__name__) from error
    except ValueError:
        raise InputError("the server's reply is no JSON", where=where, fix="check the address") from None
    if not isinstance(value, dict):
        found = type(value).__name__
        raise InputError(f"the server's reply is no JSON object but a {found}", where=where, fix="check the address")
    return value


def read_answer(kind: type[A], answer: JSON, where: str) -> A:
    """What a server answered, as the fields that are read of it; others are left alone.

    Raises:
        InputError: a field is missing or holds something else: the server is of another kind.
    """
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"the server's reply is not as expected at {place}: {first['msg']}", where=where, fix="check the address"
        ) from None
