"""Which artifacts of a plan are up to date. Imports no torch."""

from __future__ import annotations

from spikedistill.plan.build import Plan
from spikedistill.store.artifacts import Store


class UpToDate:
    """The set of a plan's artifacts that exist and were made from the upstream artifacts that exist now, all the way up.

    Ask with `in`; the store is read only for what is asked, and once.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        """Read nothing yet."""
        self._plan = plan
        self._store = store
        self._known: dict[str, bool] = {}

    def __contains__(self, ref: str) -> bool:
        if ref not in self._known:
            upstream = self._plan.stages[ref].upstream.values()
            self._known[ref] = all(each in self for each in upstream) and self._store.is_current(ref, upstream)
        return self._known[ref]

    def lost(self) -> list[str]:
        """Return the artifacts that are missing although something that was made from them exists."""
        stages = self._plan.stages
        made = (ref for ref in stages if self._store.manifest_path(ref).exists())
        upstream = dict.fromkeys(each for ref in made for each in stages[ref].upstream.values())
        return [ref for ref in upstream if not self._store.manifest_path(ref).exists()]
