"""Looks after stored answers: polls of the lists, full scans, and reads by id of what has changed."""

from campaign_gateway.proxy.sweep.leader import CLIENT, USED_SECONDS, SweepConfig, Sweeper

__all__ = ["CLIENT", "USED_SECONDS", "SweepConfig", "Sweeper"]
