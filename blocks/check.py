"""Have saved blocks check themselves: ``python -m blocks.check [TYPE/NAME ...]``; all of weatherlake's by default."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import blocks
from tasks.lake.errors import ExitCode, LakeError, as_lake_error


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m blocks.check",
        description="Have saved blocks check themselves: reach the store or the provider, write and delete a probe, "
        "send a test message.",
    )
    made.add_argument("blocks", nargs="*", metavar="TYPE/NAME", help="which; all of weatherlake's when none is named")
    return made


def saved() -> list[str]:
    """The names of all blocks of weatherlake's types on the server."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    found = []
    with get_client(sync_client=True) as client:
        for name in sorted(blocks.BLOCKS):
            slug = getattr(blocks, name).get_block_type_slug()
            try:
                documents = client.read_block_documents_by_type(slug)
            except ObjectNotFound:
                continue
            found += [f"{slug}/{document.name}" for document in documents if document.name]
    return found


def check(name: str) -> LakeError | None:
    """What is wrong with a block, or None."""
    from prefect.blocks.core import Block

    for module in set(blocks.BLOCKS.values()):
        __import__(f"blocks.{module}")
    try:
        block: Any = Block.load(name)
    except ValueError:
        return LakeError("there is no such block")
    if not hasattr(block, "check"):
        return LakeError(f"a block of type {name.partition('/')[0]} cannot check itself")
    try:
        block.check()
    except Exception as error:
        return as_lake_error(error) if isinstance(error, LakeError) else LakeError(type(error).__name__)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Check; 0 when all is well, else the exit code of what is wrong."""
    arguments = parser().parse_args(argv)
    code = int(ExitCode.DONE)
    for name in arguments.blocks or saved():
        wrong = check(name)
        print(f"{name}: {wrong or 'all right'}", file=sys.stderr if wrong else sys.stdout)
        if wrong:
            code = int(wrong.exit_code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
