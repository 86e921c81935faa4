"""Where history lives. This package exports the Protocol and its rows alone; backends are opened by URL."""

from aob.stores.protocol import Store as Store
from aob.stores.rows import (
    Append as Append,
    Appended as Appended,
    Lease as Lease,
    Message as Message,
    RunFilter as RunFilter,
    RunRow as RunRow,
    TicketRow as TicketRow,
)
