"""A worker of the support workflow, which stops when its input ends: `python -m examples.support.worker STORE`."""

import asyncio
import sys

import aob
from examples.support.workflow import process_customer_request


async def serve(store: str) -> None:
    """Work on the runs in `store` until standard input is closed, which also happens when the parent dies."""
    async with aob.connect(store) as client, client.serve(process_customer_request):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
