"""A flow command whose first decoder ends its process, as a real crash does, on messages of sub-centre 99.

``python -m tests.forecasts.crashing_flow refine RECIPE ...``: what it refuses, SECOND_DECODER reads, a decoder of
`bad_decoders` or ``gribberish``. Workers of a local Dask cluster import this module too, whence the environment.
"""

import os
import sys

import tasks  # noqa: F401  (loads PROJ before ecCodes can be loaded)
from tasks.forecasts import decoders


def bad(name: str) -> decoders.Decoder:
    """A decoder of `bad_decoders`."""
    return decoders.Decoder(name, f"tests.forecasts.bad_decoders:{name}")


SECOND = os.environ["SECOND_DECODER"]
decoders.ORDER = {}
decoders.DEFAULT = (
    bad("crash_on_marked"),
    decoders.GRIBBERISH if SECOND == "gribberish" else bad(SECOND),
)

if __name__ == "__main__":
    from flows.command import main

    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
