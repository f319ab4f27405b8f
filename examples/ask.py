"""Ask the chat of examples/chat.py, and print its answer as it comes.

python -m examples.ask localhost:50051 "How do I write a lambda?"
"""

import asyncio
import sys

from ephaptic_grpc import CallError, connect
from examples.chat import chat


async def main(target: str, question: str) -> None:
    async with connect(target, chat) as client:
        async for token in client.ai_response(question):
            print(token, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except CallError as error:
        sys.exit(str(error))
