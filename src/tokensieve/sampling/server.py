"""Draw answers from any server that speaks OpenAI's chat completions."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from pydantic import BaseModel

from tokensieve.config import AnswererSettings, SampleSettings, TemplateArgument
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.sampling.request import Request, seed_of
from tokensieve.server import NoAnswer, Refused, ask, key_of, open_client, read_answer, sound_address
from tokensieve.types import JSON, Sample

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase

_Body: TypeAlias = dict[str, JSON]

_PATH: Final = "/chat/completions"
_BUSY: Final = frozenset({408, 409, 429})
_SERVERS_FAULT: Final = 500
"""First of the statuses that are the server's fault."""
_OPTIONAL: Final = ("n", "seed")
"""Parameters that not every server takes; left out once one was refused."""


class _Message(BaseModel):
    """The turn that a server answers with; without text where it calls a tool or refuses."""

    content: str | None = None


class _Choice(BaseModel):
    """One answer."""

    message: _Message | None = None
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The answer to a request for chat completions."""

    choices: list[_Choice] | None = None


class ServerSampler:
    """Answers by HTTP requests, several at a time, tried again where the server is busy.

    A server gives text: ids are made from it with the given tokenizer and the samples are flagged ``retokenised``.
    Where the server takes no ``n``, each answer is a request of its own. A seed is sent, but whether equal requests
    give equal answers is up to the server. Only answers that the server says have stopped by themselves are finished.

    Args:
        settings: address, name of the model, limits.
        tokenizer: of the model that will be trained on the answers; None leaves samples without ids.
        template_kwargs: arguments of the chat template, sent as ``chat_template_kwargs`` where there are any.
    """

    def __init__(
        self,
        settings: AnswererSettings,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        template_kwargs: Mapping[str, TemplateArgument] | None = None,
    ) -> None:
        if settings.url is None or settings.model is None:
            raise InputError(
                "a server needs an address and the name of a model",
                where="generate.answerer",
                fix="--answerer.url http://localhost:8000/v1 --answerer.model NAME",
            )
        self._settings = settings
        self._url = sound_address(settings.url, "generate.answerer.url")
        self._address = self._url + _PATH
        self._tokenizer = tokenizer
        self._template_kwargs = dict(template_kwargs or {})
        self._refused: set[str] = set()
        self._pace = _Pace(settings.requests_per_minute)

    @property
    def identity(self) -> ModelIdentity:
        """The model's name on the server; nothing is known of its weights."""
        return ModelIdentity(name=f"{self._settings.model} at {self._settings.url}", backend="server")

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        """Answer the requests; see ``Sampler.draw``.

        Raises:
            InputError: the server refuses the requests as they are, or a request has no messages.
            EnvironmentProblem: the server cannot be reached or stays busy, or refuses the key.
        """
        pending: set[Future[list[Sample]]] = set()
        waiting = iter(requests)
        concurrency = self._settings.concurrency
        with self._open() as client, ThreadPoolExecutor(concurrency, thread_name_prefix="server") as pool:
            try:
                while True:
                    room = 2 * concurrency - len(pending)
                    pending |= {pool.submit(self._answer, client, r, settings) for r in islice(waiting, room)}
                    if not pending:
                        return
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield from future.result()
            finally:
                for future in pending:
                    future.cancel()

    def _open(self) -> "OpenAI":
        settings = self._settings
        return open_client(
            self._url,
            key=key_of(settings.key_variable),
            retries=settings.retries,
            timeout_s=settings.timeout_s,
            before_try=self._pace.wait,
        )

    def _answer(self, client: "OpenAI", request: Request, settings: SampleSettings) -> list[Sample]:
        """All answers of one request, in as many HTTP requests as the server needs."""
        if not request.messages:
            raise InputError("a server takes messages, not token ids", where=f"request {request.id}")
        samples: list[Sample] = []
        while len(samples) < request.n:
            index = request.first + len(samples)
            body = self._body(request, settings, index, request.n - len(samples))
            choices = read_answer(_Completion, self._post(client, body), self._address).choices
            if not choices:
                raise InputError("the server's reply has no choices", where=self._address)
            if "n" in body and len(choices) < request.n - len(samples):
                self._refused.add("n")
            taken = choices[: request.n - len(samples)]
            samples += [self._sample(request, index + place, choice) for place, choice in enumerate(taken)]
        return samples

    def _body(self, request: Request, settings: SampleSettings, index: int, wanted: int) -> _Body:
        body: _Body = {
            "model": self._settings.model,
            "messages": [cast("dict[str, JSON]", dict(message)) for message in request.messages],
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": request.max_new_tokens,
            "seed": seed_of(settings.seed, request.id, index) % 2**31,
        }
        if self._template_kwargs:
            body["chat_template_kwargs"] = self._template_kwargs
        if wanted > 1:
            body["n"] = wanted
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return {key: value for key, value in body.items() if key not in self._refused}

    def _post(self, client: "OpenAI", body: _Body) -> _Body:
        """Send one request; without a parameter that the server does not take once it says so."""
        try:
            return ask(client, _PATH, body)
        except Refused as error:
            if error.status in (400, 422) and (fewer := self._without_refused(body, error.text)) is not None:
                return self._post(client, fewer)
            if error.status not in _BUSY and error.status < _SERVERS_FAULT:
                raise _refusal(error, self._address, self._settings) from None
            trouble, tries = str(error), error.tries  # fewer than allowed where the server asks for a long pause
        except NoAnswer as error:
            trouble, tries = str(error), self._settings.retries + 1
        raise EnvironmentProblem(
            f"no answer after {tries} {'try' if tries == 1 else 'tries'}; the last: {trouble}",
            where=self._address,
            fix="start the server, or lower answerer.concurrency; the same command goes on where it stopped",
        )

    def _without_refused(self, body: _Body, text: str) -> _Body | None:
        """The body without the parameter that the server did not take; None where that is not what it minds."""
        if "max_tokens" in body and "max_completion_tokens" in text:
            self._refused.add("max_tokens")
            return {**{k: v for k, v in body.items() if k != "max_tokens"}, "max_completion_tokens": body["max_tokens"]}
        for name in _OPTIONAL:
            if name in body and f"{name}" in text.replace('"', " ").replace("'", " ").replace("`", " ").split():
                self._refused.add(name)
                return {key: value for key, value in body.items() if key != name}
        return None

    def _sample(self, request: Request, index: int, choice: _Choice) -> Sample:
        text = (choice.message and choice.message.content) or ""
        ids: tuple[int, ...] = ()
        if self._tokenizer is not None:
            ids = tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return Sample(
            problem_id=request.id,
            task=request.task,
            index=index,
            text=text,
            ids=ids,
            finished=choice.finish_reason == "stop",
            retokenised=True,
        )


class _Pace:
    """Lets through so many requests a minute, evenly."""

    def __init__(self, per_minute: int | None) -> None:
        self._gap_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        if not self._gap_s:
            return
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._gap_s
        time.sleep(max(0.0, begin - time.monotonic()))


def _refusal(refused: Refused, address: str, settings: AnswererSettings) -> InputError | EnvironmentProblem:
    code = refused.status
    if code in (401, 403):
        return EnvironmentProblem(
            f"the server refuses the key (HTTP {code})", where=address, fix=f"set {settings.key_variable}"
        )
    fix = "check --answerer.url and --answerer.model" if code == 404 else None
    return InputError(f"the server refuses the request (HTTP {code}): {refused.text}", where=address, fix=fix)
