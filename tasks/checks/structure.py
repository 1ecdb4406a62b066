"""Structure: the stored array is what the recipe and the source's metadata say."""

from .check import Check, Finding, Form, Subject, Watch, checks
from .limits import spelled


@checks.register("structure")
class Shape(Check):
    """dtype, dimensions, lengths and units of the array in the run's branch are those expected.

    Fatal for the whole variable: nothing else could be trusted. Not judged outside a cube.
    """

    type: str = "structure"
    fatal: bool = True

    def watch(self, subject: Subject) -> Watch:
        return _Watch(self, subject)


class _Watch(Watch[Shape]):
    def finding(self) -> Finding:
        subject, structure = self.subject, self.subject.structure
        if structure is None:
            return self.sound(f"{subject.name}: is in no cube, so its structure is not judged.")
        faults = _differences(structure.stored, structure.expected)
        if not faults:
            form = structure.stored
            return self.sound(f"{subject.name}: is {form.dtype} ({', '.join(form.dims)}) in {form.units} as expected.")
        check = self.check
        return Finding(
            check.type, subject.name, 0.0, f"{subject.name}: {'; '.join(faults)}.", fatal=check.fatal,
            weight=check.weight,
        )  # fmt: skip


def _differences(stored: Form, expected: Form) -> list[str]:
    pairs = {
        "dtype": (stored.dtype, expected.dtype),
        "dimensions": (stored.dims, expected.dims),
        "shape": (stored.shape, expected.shape),
        "units": (spelled(stored.units), spelled(expected.units)),
    }
    return [f"{what}: expected {wanted}, found {found}" for what, (found, wanted) in pairs.items() if found != wanted]
