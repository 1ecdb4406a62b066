"""Why a collection cannot be tiled: the vocabulary of verdicts."""

from enum import StrEnum


class Reason(StrEnum):
    """One of these, or none: then the collection is compatible.

    All but the last two are those of NASA's compatibility report. The reference has no word for a check that ran out
    of memory or that took its process down, and so cannot tell them from one that never ran.
    """

    UNSUPPORTED_FORMAT = "unsupported_format"
    CANT_OPEN_FILE = "cant_open_file"
    TILE_GENERATION_FAILED = "tile_generation_failed"
    NO_GRANULE_FOUND = "no_granule_found"
    FAILED_TO_EXTRACT_URL = "failed_to_extract_url"
    TIMEOUT = "timeout"
    CANT_EXTRACT_VARIABLES = "cant_extract_variables"
    GROUP_STRUCTURE = "group_structure"
    NO_XY_DIMENSIONS = "no_xy_dimensions"
    FORBIDDEN = "forbidden"
    GROUP_NOT_ALIGNED_WITH_PARENTS = "group_not_aligned_with_parents"
    DECODE_ERROR = "decode_error"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"


COMPATIBLE = "compatible"
"""What stands in the place of a reason where there is none, in counts and in the ledger."""


class Finding(Exception):
    """A check that came to its end: the granule cannot be used, for this reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Passing(Exception):
    """A check that came to no end: a server did not answer, which may be over later."""
