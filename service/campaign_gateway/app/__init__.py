"""The wiring: builds each room once out of the settings, starts and stops them in order. Only this knows everybody."""

from campaign_gateway.app.gateway import Gateway, running
from campaign_gateway.app.listen import WorkerSlot

__all__ = ["Gateway", "WorkerSlot", "running"]
