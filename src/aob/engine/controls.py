"""What may be asked of a run, each in its own file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aob.engine.forks import Forks
from aob.engine.queries import Queries
from aob.engine.removal import Removal
from aob.engine.retries import Retries
from aob.engine.signals import Signals
from aob.engine.stops import Stops
from aob.engine.tickets import Tickets
from aob.engine.turns import Turns
from aob.engine.updates import Updates

if TYPE_CHECKING:
    from aob.engine.host import Host


class Controls:
    """Carried out by the owner. Async calls load the run; what they did is durable when they return."""

    def __init__(self, host: Host) -> None:
        turns = Turns()
        self.signals = Signals(host)
        self.queries = Queries(host)
        self.updates = Updates(host, self.signals)
        self.stops = Stops(host)
        self.retries = Retries(host, self.stops, turns)
        self.forks = Forks(host)
        self.tickets = Tickets(host)
        self.removal = Removal(host, turns)
