"""The person in the demonstration: approves middling refunds, and leaves large ones until their time has passed."""

import asyncio
from decimal import Decimal

import aob

UP_TO = Decimal(150)
LOOK_SECONDS = 0.1


async def review(client: aob.Client) -> None:
    """Decide the open tickets of the client's tenant, until cancelled."""
    while True:
        for ticket in await client.tickets():
            await _decide(client, ticket)
        await asyncio.sleep(LOOK_SECONDS)


async def _decide(client: aob.Client, ticket: aob.Ticket) -> None:
    refund = ticket.data["refund"]
    if refund["currency"] != "EUR" or Decimal(refund["amount"]) > UP_TO:
        return
    try:
        await client.decide(ticket.id, True, by="the demo's reviewer", reason=f"up to {UP_TO} EUR is fine")
    except (aob.TicketClosed, aob.NoWorker):
        # Its time has passed, or the worker was killed just now: what is still open is listed again.
        return
