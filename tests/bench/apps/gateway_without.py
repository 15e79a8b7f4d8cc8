"""The gateway without some of what it does for each request, to see what that costs.

`python -m tests.bench.apps.gateway_without metrics,lines serve --config gateway.yaml`
"""

import logging
import sys

from campaign_gateway.cli import main
from campaign_gateway.telemetry.metrics import Metrics


def _nothing(*_: object) -> None:
    pass


if __name__ == "__main__":
    without = sys.argv.pop(1).split(",")
    if "metrics" in without:
        for name in ("request", "served", "store_operation"):
            setattr(Metrics, name, _nothing)
    if "lines" in without:
        logging.getLogger("campaign_gateway.requests").setLevel(logging.WARNING)
    main()
