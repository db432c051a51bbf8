class Settled:
    """The artifacts of a plan that are there, and whose upstream is, all the way up, what they were made from.

    Asked with `in`; looks into the store only for what is asked, and once.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        """Look at nothing yet."""
        self._plan = plan
        self._store = store
        self._known: dict[str, bool] = {}

    def __contains__(self, ref: str) -> bool:
        if ref not in self._known:
            upstream = self._plan.stages[ref].upstream.values()
            self._known[ref] = all(each in self for each in upstream) and self._store.is_current(ref, upstream)
        return self._known[ref]

    def lost(self) -> list[str]:
        """Artifacts that are not there, although something that was made from them is."""
        stages = self._plan.stages
        made = (ref for ref in stages if self._store.manifest_path(ref).exists())
        upstream = dict.fromkeys(each for ref in made for each in stages[ref].upstream.values())
        return [ref for ref in upstream if not self._store.manifest_path(ref).exists()]
