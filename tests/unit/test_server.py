"""Asking a server: what counts as an address, and what is said where the answer is not whole or no JSON."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tokensieve.errors import InputError
from tokensieve.server import NoAnswer, Refused, ask, key_of, open_client, sound_address
from tokensieve.types import JSON

Serve = Callable[[bytes], str]


@pytest.fixture
def says() -> Iterator[Serve]:
    """Start a server that answers one request with these bytes and hangs up."""
    sockets: list[socket.socket] = []

    def start(reply: bytes) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is closed with bytes unread is reset, answer and all
                    pass

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    yield start
    for listening in sockets:
        listening.close()


def asked(url: str, content: JSON = None, retries: int = 0) -> JSON:
    with open_client(url, timeout_s=5, retries=retries) as client:
        return ask(client, "/models", content)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://host/v1/", "http://[::1]:80"])
def test_addresses(url: str) -> None:
    assert sound_address(url, "--url") == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000/v1", "host/v1", "file:///etc/passwd", "http://", "http://host:port/v1", "http://[::1/v1"],
)
def test_what_is_no_address_is_refused_with_the_option_it_came_from(url: str) -> None:
    with pytest.raises(InputError, match="expected an address such as") as raised:
        sound_address(url, "--url")
    assert raised.value.where == "--url"


def test_an_answer_is_read(says: Serve) -> None:
    assert asked(says(b'HTTP/1.0 200 OK\r\n\r\n{"a": [1]}'), {"q": 1}) == {"a": [1]}


@pytest.mark.parametrize(
    "reply",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"no HTTP at all\r\n"],
    ids=["nothing", "cut off", "another protocol"],
)
def test_an_answer_that_is_not_whole_is_none(says: Serve, reply: bytes) -> None:
    with pytest.raises(NoAnswer):
        asked(says(reply))


@pytest.mark.parametrize("text", [b"<html>", b"\xff\xfe", b"[1]", b"null", b'"text"'])
def test_an_answer_that_is_no_json_is_said(says: Serve, text: bytes) -> None:
    with pytest.raises(InputError, match="no JSON"):
        asked(says(b"HTTP/1.0 200 OK\r\n\r\n" + text))


def test_a_refusal_keeps_its_status_and_words(says: Serve) -> None:
    with pytest.raises(Refused) as refused:
        asked(says(b"HTTP/1.0 429 Too Many Requests\r\nRetry-After: 3\r\n\r\nslow down"))
    assert (refused.value.status, refused.value.text) == (429, "slow down")


@pytest.mark.parametrize(("held", "key"), [(None, None), ("", None), ("abc", "abc"), (" abc\n", "abc")])
def test_a_key_is_read_without_white_space(monkeypatch: pytest.MonkeyPatch, held: str | None, key: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if held is not None:
        monkeypatch.setenv("MY_KEY", held)
    assert key_of("MY_KEY") == key


@pytest.mark.parametrize("held", ["sec\nret", "secr\u00e9t", "sec\x7fret"])
def test_a_key_that_no_header_takes_is_refused_and_not_printed(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.setenv("MY_KEY", held)
    with pytest.raises(InputError, match="MY_KEY") as raised:
        key_of("MY_KEY")
    assert "sec" not in str(raised.value)
