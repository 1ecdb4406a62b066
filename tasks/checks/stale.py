"""Stale runs: yesterday's fields under today's name."""

from .check import Check, Climate, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .limits import traits
from .phrases import others, place


@checks.register("stale")
class Stale(Check):
    """No field of the first member is bit-identical to one of an earlier accepted run.

    Headers can be right and the values old: a mirror that serves the run before, a cache that was not emptied. Left out
    are parameters that may stand still (traits ``steady``, ``static``) and fields of one value.
    """

    type: str = "stale"

    def watch(self, subject: Subject) -> Watch:
        if subject.climate is None or not subject.climate.digests:
            return Quiet(self, subject, "there is no earlier run whose fields could be served again")
        if (traits(subject) or frozenset()) & {"steady", "static"}:
            return Quiet(self, subject, "may be the same in two runs, so not judged")
        return _Watch(self, subject, subject.climate)


class _Watch(Watch[Stale]):
    def __init__(self, check: Stale, subject: Subject, climate: Climate) -> None:
        super().__init__(check, subject)
        self.climate = climate
        self.seen_in: dict[Index, tuple[str, int]] = {}

    def see(self, field: Field) -> None:
        if field.index[1] != 0 or field.constant:
            return
        found = self.climate.digests.get(field.digest)
        if found is not None:
            self.faulty[field.index] = True
            self.seen_in[field.index] = found

    def finding(self) -> Finding:
        subject = self.subject
        if not self.seen_in:
            runs = len(self.climate.runs)
            return self.sound(f"{subject.name}: no field is one of the last {runs} accepted runs again.")
        at = self.first()
        run, lead = self.seen_in[at]
        sentence = f"{subject.name} at {place(subject, at)}: is run {run} at +{lead} h again{others(self.faulty)}."
        return self.faults(sentence, at, of=max(1, int(subject.present[:, 0].sum())))
