"""Serve the published cubes of a lake: ``python -m deployments.api --lake ./lake``. See docs/api.md."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from tasks.lake.errors import ExitCode, LakeError

from .settings import Settings, log


def parser() -> argparse.ArgumentParser:
    """Flags: those of `Settings`, where to listen, and how many processes."""
    made = argparse.ArgumentParser(prog="python -m deployments.api", description=__doc__.partition(":")[0])
    made.add_argument("--host", default="127.0.0.1", help="Address to listen on. (127.0.0.1)")
    made.add_argument("--port", type=int, default=8090, help="Port to listen on. (8090)")
    made.add_argument("--workers", type=int, default=1, help="Processes that answer. (1)")
    made.add_argument(
        "--behind", metavar="ADDRESS", help="Address of a proxy whose X-Forwarded-For names the client. (none)"
    )
    for name, field in Settings.model_fields.items():
        options: dict[str, Any] = {"help": field.description, "default": None}
        if get_origin(field.annotation) is tuple:
            options["action"] = "append"
        else:
            kinds = [t for t in get_args(field.annotation) if t is not types.NoneType]
            options["type"] = (kinds or [field.annotation])[0]
            if not field.is_required():
                options["help"] += f" ({field.default})"
        made.add_argument(f"--{name.replace('_', '-')}", required=field.is_required(), **options)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until it is told to end. Exit codes as everywhere: 2 for what is wrong with the flags or the lake."""
    given = vars(parser().parse_args(argv))
    host, port, workers, behind = (given.pop(k) for k in ("host", "port", "workers", "behind"))
    try:
        settings = Settings.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]).replace("_", "-") if first["loc"] else "settings"
        print(f"--{where}: {first['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        return ExitCode.USAGE
    if workers < 1 or not 0 <= port < 65536:
        print("--workers must be 1 or more, --port from 0 to 65535", file=sys.stderr)
        return ExitCode.USAGE
    log()
    folder = tempfile.mkdtemp(prefix="weatherlake-api-") if workers > 1 else None
    if folder:
        # Where the workers put their numbers together; known before prometheus_client is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    # uvicorn ends in good order and then raises the signal again: being told to end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.DONE))
    try:
        return _serve(settings, host, port, workers, behind)
    except LakeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _serve(settings: Settings, host: str, port: int, workers: int, behind: str | None) -> int:
    import uvicorn

    from .protocol import Patient
    from .service import Service

    # What is wrong with the lake or a key is said here, once, and not by every worker.
    Service(settings)
    settings.hand_on()
    uvicorn.run(
        "deployments.api.app:from_environment", factory=True, host=host, port=port, workers=workers,
        http=Patient, loop="uvloop", ws="none", access_log=False, log_config=None, server_header=False,
        proxy_headers=behind is not None, forwarded_allow_ips=behind, limit_concurrency=settings.connections,
        timeout_keep_alive=15, timeout_graceful_shutdown=int(settings.timeout),
    )  # fmt: skip
    return ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
