"""Everything that the pages work with."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from supervisor.web.assets import Asset
from supervisor.web.cache import Cache
from supervisor.web.callers import Callers
from supervisor.web.link import Link
from supervisor.web.live import Hub
from supervisor.web.mirror import Mirror
from supervisor.web.rate import RateLimit
from supervisor.web.scrape import Scrape
from supervisor.web.settings import Settings


class Site(Struct, frozen=True):
    """The parts of one web face."""

    settings: Settings
    mirror: Mirror
    hub: Hub
    history: Cache
    scrape: Scrape
    wishes: Link
    callers: Callers
    actions: RateLimit
    logins: RateLimit
    assets: Mapping[str, Asset]
    now_s: Callable[[], float]
