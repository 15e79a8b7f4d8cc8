"""What `campaign-gateway doctor` does: tries, in order, all that a gateway needs, and names what stands in its way.

`examine` tells the story. Who asks (`own`, `running`, `reach`, `redis_facts`, `calls`, `probe`) hands facts to who
judges them (`verdicts`, `redis_verdicts`, `stream_verdicts`, `measures`, `probe_verdicts`), which are pure. What
depends on something that failed is not tried: the first error names the cause.
"""

from campaign_gateway.doctor.examine import examine
from campaign_gateway.doctor.findings import Diagnosis, Finding
from campaign_gateway.doctor.lines import Style, lines_of

__all__ = ["Diagnosis", "Finding", "Style", "examine", "lines_of"]
