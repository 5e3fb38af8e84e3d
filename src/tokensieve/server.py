"""Ask a server for JSON: a sound address, one request, and errors that say what broke."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from tokensieve.errors import InputError
from tokensieve.types import JSON

_JSON: Final = {"Content-Type": "application/json"}


class NoAnswer(ConnectionError):
    """The server cannot be reached, or broke off before its answer was whole."""


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


def ask(url: str, content: JSON = None, *, headers: Mapping[str, str] | None = None, timeout_s: float) -> JSON:
    """The JSON that a server answers; a POST where there is content.

    Args:
        url: under an address that ``sound_address`` has let through.
        content: what is sent, as JSON.
        headers: further ones.
        timeout_s: longest wait for the next bytes, seconds.

    Raises:
        urllib.error.HTTPError: the server refuses, with its status.
        NoAnswer: it cannot be reached, or broke off.
        InputError: it answers with something else than JSON.
    """
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {**_JSON, **(headers or {})})  # noqa: S310 - checked to be HTTP
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            text = reply.read()
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:  # the latter where an answer ends too early
        raise NoAnswer(str(error) or type(error).__name__) from error
    try:
        return cast(JSON, json.loads(text))
    except ValueError:
        raise InputError("the server's reply is no JSON", where=url, fix="check the address") from None
