# SPDX-License-Identifier: MIT
"""The fields of requests: what a case may send beside its first line. Sends nothing."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Fields(Enum):
    """What a request carries; `Host` and `Connection` always."""

    FEW = 2
    BROWSER = 9
    VARIED = "9, two of them different in every request"


BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://www.example.org/catalogue/2?sort=price",
    "Cookie": "sessionid=8f1c3a0d7e5b4f6294d0c1b2a3948576; theme=dark",
    "Upgrade-Insecure-Requests": "1",
}
"""What a browser sends with `Host` and `Connection`: nine fields in all."""

FIXED: Final[dict[Fields, dict[str, str]]] = {
    Fields.FEW: {},
    Fields.BROWSER: BROWSER,
    # wrk.lua puts a `traceparent` into the place of the last one, and another `Cookie` into each request.
    Fields.VARIED: {name: value for name, value in BROWSER.items() if name != "Upgrade-Insecure-Requests"},
}
"""Those that are the same in every request of a case, but `Host` and `Connection`."""
