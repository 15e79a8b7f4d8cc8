"""The campaign gateway: one trusted endpoint in front of the Kore.ai Campaign Management public API."""

__version__ = "0.1.0"
