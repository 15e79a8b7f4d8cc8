"""The console: a page for people, and the JSON that it is made of."""

from campaign_gateway.admin.console.routes import Console, Purged, console_routes, page_routes

__all__ = ["Console", "Purged", "console_routes", "page_routes"]
