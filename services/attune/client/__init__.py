"""The public SDK: generate completions and send back what people preferred. Needs gRPC and protobuf, nothing more."""

from attune.client.access import Access
from attune.client.aio import AsyncClient
from attune.client.client import Client
from attune.client.requests import CompletionLike, PromptLike, Timeouts, new_event
from attune.client.results import Delta, GenerationResult, Receipt, Scores
from attune.client.retries import NO_RETRY, RetryPolicy
from attune.domain.errors import AttuneError
from attune.domain.feedback import Comparison, Demonstration, FeedbackEvent, Ranking, Rating
from attune.domain.generations import Completion, Generation, Purpose, Sampling
from attune.domain.prompts import Message, Prompt

__all__ = [
    "NO_RETRY",
    "Access",
    "AsyncClient",
    "AttuneError",
    "Client",
    "Comparison",
    "Completion",
    "CompletionLike",
    "Delta",
    "Demonstration",
    "FeedbackEvent",
    "Generation",
    "GenerationResult",
    "Message",
    "Prompt",
    "PromptLike",
    "Purpose",
    "Ranking",
    "Rating",
    "Receipt",
    "RetryPolicy",
    "Sampling",
    "Scores",
    "Timeouts",
    "new_event",
]
