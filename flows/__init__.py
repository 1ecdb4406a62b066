"""The flows: five phases and the pipeline that chains them. ``python -m flows.<phase> --help``."""

import tasks  # noqa: F401  (loads PROJ before ecCodes can be loaded)
