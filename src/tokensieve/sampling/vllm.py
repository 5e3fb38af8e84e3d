"""Draw answers with vLLM in this process (extra ``vllm``)."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tokensieve.config import ModelSettings, SampleSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.models import load_chat
from tokensieve.models.vllm_engine import start_vllm
from tokensieve.sampling.request import Request, seed_of
from tokensieve.types import IntArray, Sample

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput


class VllmSampler:
    """Answers with vLLM's offline engine, which batches by itself. Close it after use.

    An answer's seed is its own, but vLLM does not promise equal logits in other batches, so that answers at a
    temperature may differ between runs.

    Args:
        settings: the model.

    Raises:
        EnvironmentProblem: as in ``start_vllm``.
        InputError: as in ``start_vllm``.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._chat = load_chat(settings)
        self._tokenizer = self._chat.encoder.tokenizer
        self._engine = start_vllm(settings, "answerer.backend")

    @property
    def identity(self) -> ModelIdentity:
        """The model, with vLLM as backend."""
        return self._engine.identity

    def close(self) -> None:
        """End the engine's processes; no further call draws."""
        self._engine.close()

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        """Answer the requests; see ``Sampler.draw``."""
        from vllm import SamplingParams

        listed = list(requests)
        pairs = [(request, request.first + place) for request in listed for place in range(request.n)]
        prompts = {request.id: self._prompt_T(request).tolist() for request in listed}
        outputs = self._engine.llm.generate(
            [{"prompt_token_ids": prompts[request.id]} for request, _ in pairs],
            [
                SamplingParams(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=request.max_new_tokens,
                    seed=seed_of(settings.seed, request.id, index) % 2**63,
                    logprobs=0,
                    detokenize=False,
                    stop_token_ids=sorted(self._chat.stop_ids),
                )
                for request, index in pairs
            ],
            use_tqdm=False,
        )
        for (request, index), output in zip(pairs, outputs, strict=True):
            yield self._sample(request, index, output.outputs[0])

    def _prompt_T(self, request: Request) -> IntArray:
        if request.prompt_T is not None:
            return request.prompt_T
        return self._chat.prompt_ids(request.messages)

    def _sample(self, request: Request, index: int, output: "CompletionOutput") -> Sample:
        finished = output.finish_reason == "stop"
        ids = tuple(output.token_ids)
        total = output.cumulative_logprob
        return Sample(
            problem_id=request.id,
            task=request.task,
            index=index,
            text=self._tokenizer.decode(list(ids), skip_special_tokens=True),
            ids=ids,
            finished=finished,
            nll=-total / len(ids) if total is not None and ids else float("nan"),
        )
