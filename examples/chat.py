"""A chat that streams its answer, and the machine's load as it changes.

    ephaptic-grpc serve examples.chat

The answers come from any OpenAI-compatible server where OPENAI_BASE_URL names one (with OPENAI_MODEL and
OPENAI_API_KEY), and from Python's own manual where it doesn't.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from math import log, sqrt
from pydoc_data.topics import topics
from typing import Annotated, Final

import grpc
import httpx
import psutil
from pydantic import BaseModel, Field

from ephaptic_grpc import Service, ServiceError

chat = Service("chat.v1.ChatService")

WORDS_OF_AN_ANSWER: Final = 120
SECONDS_A_WORD: Final = 0.02


class Load(BaseModel):
    """How busy the machine is."""

    at: datetime
    cpu_percent: float
    memory_percent: float


@chat.expose
async def ai_response(message: Annotated[str, Field(min_length=1, max_length=10_000)]) -> AsyncIterator[str]:
    """Answer a message token by token."""
    base_url = os.environ.get("OPENAI_BASE_URL")
    async for token in from_model(base_url, message) if base_url else from_manual(message):
        yield token


@chat.expose
async def system_load(interval: Annotated[float, Field(ge=0.05, le=60)] = 1.0) -> AsyncIterator[Load]:
    """The machine's load, measured over each interval (in seconds), until the caller has seen enough."""
    psutil.cpu_percent()  # the first reading has nothing to compare with
    while True:
        await asyncio.sleep(interval)
        yield Load(
            at=datetime.now(UTC), cpu_percent=psutil.cpu_percent(), memory_percent=psutil.virtual_memory().percent
        )


async def from_model(base_url: str, message: str) -> AsyncIterator[str]:
    """What an OpenAI-compatible server answers."""
    request = {
        "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        "messages": [{"role": "user", "content": message}],
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    async with (
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client,
        client.stream("POST", "chat/completions", json=request) as response,
    ):
        if response.is_error:
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, f"the model's server answered {response.status_code}")
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in Chunk.model_validate_json(line.removeprefix("data: ")).choices:
                    if choice.delta.content:
                        yield choice.delta.content


async def from_manual(message: str) -> AsyncIterator[str]:
    """What Python's manual says about it, word by word."""
    for word in re.findall(r"\S+\s*", topics[best_topic(message)])[:WORDS_OF_AN_ANSWER]:
        yield word
        await asyncio.sleep(SECONDS_A_WORD)


def best_topic(message: str) -> str:
    """The topic of the manual that has most to do with a message."""
    counts = {topic: Counter(words_of(text)) for topic, text in topics.items()}
    rarity = {
        word: log(len(counts) / (1 + sum(word in count for count in counts.values()))) for word in words_of(message)
    }

    def relevance(topic: str) -> float:
        count = counts[topic]
        return sum(rare * count[word] for word, rare in rarity.items()) / sqrt(count.total())

    return max(topics, key=relevance)


def words_of(text: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall(r"\w+", text.lower())]


class Delta(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    delta: Delta


class Chunk(BaseModel):
    """One event of an OpenAI-compatible stream."""

    choices: list[Choice] = []
