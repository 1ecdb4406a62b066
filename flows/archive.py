"""Archives of runs: ``python -m flows.archive verify URL``, ``restore URL --run R``, ``lifecycle RECIPE --to URL``.

Runs are sent there by ``python -m flows.export RECIPE --exporter archive --to URL`` (docs/archive.md).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import orjson

from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError, as_lake_error
from tasks.lake.meter import Meter
from tasks.lake.objects import Objects

_EXIT_CODES = """\
exit codes:
  0  proven, restored, put
  1  the archive is damaged or not whole
  2  wrong usage or recipe
  4  objects are still being restored, or a transient failure: try again later
"""
_LOOK = 60.0


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.archive", description="Prove, restore and age archives of runs (docs/archive.md).",
        epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _verify_arguments(_command(commands, "verify", "prove that what was sent is there, byte for byte"))
    _restore_arguments(_command(commands, "restore", "ask for frozen objects of a run, and copy it into a lake"))
    _lifecycle_arguments(_command(commands, "lifecycle", "the recipe's storage classes by age as rules of the bucket"))
    return made


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def _verify_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("url", metavar="URL", help="the archive: a folder or s3://bucket/prefix?endpoint=...")
    made.add_argument("--recipe", metavar="NAME", default="", help="of this recipe only")
    made.add_argument("--run", metavar="R", default="", help="one run, such as 2026-11-20T00 (with --recipe)")
    made.add_argument("--key", metavar="FILE", help="public key (PEM) of the sender; else the one beside each manifest")
    made.add_argument(
        "--sample", metavar="SHARE", type=float, default=1.0, help="share of the objects to read, such as 0.1 (all)"
    )


def _restore_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("url", metavar="URL", help="the archive: a folder or s3://bucket/prefix?endpoint=...")
    made.add_argument("--recipe", metavar="NAME", required=True, help="name of the recipe")
    made.add_argument("--run", metavar="R", required=True, help="the run, such as 2026-11-20T00")
    made.add_argument("--days", metavar="N", type=int, default=7, help="days for which frozen objects stay at hand (7)")
    made.add_argument("--tier", choices=["Standard", "Bulk", "Expedited"], default="Standard", help="how soon")
    made.add_argument("--to", metavar="LAKE", help="the lake to copy the run into; without, objects are asked for only")
    made.add_argument("--wait", metavar="MINUTES", type=float, default=0.0, help="wait for frozen objects")


def _lifecycle_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"name of a recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    made.add_argument("--to", metavar="URL", required=True, help="the archive or lake in S3 that the rules are for")
    made.add_argument("--put", action="store_true", help="put them at the bucket; other rules of it stay")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return {"verify": _verify, "restore": _restore, "lifecycle": _lifecycle}[arguments.command](arguments)
    except (LakeError, OSError) as error:
        failure = as_lake_error(error)
        if arguments.json:
            _print_json({"command": arguments.command, "error": str(failure), "exit_code": int(failure.exit_code)})
        print(f"error: {failure}", file=sys.stderr)
        return int(failure.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from there", file=sys.stderr)
        return 130


def _print_json(document: dict[str, Any]) -> None:
    print(orjson.dumps(document).decode())


def _meter(name: str) -> Meter:
    return Meter(name, lambda said: print(said, file=sys.stderr, flush=True))


def _verify(arguments: argparse.Namespace) -> int:
    from tasks.lake.proof import Proof, prove
    from tasks.lake.signature import public_key_file

    if arguments.run and not arguments.recipe:
        raise UsageError("--run goes with --recipe")
    if not 0 < arguments.sample <= 1:
        raise UsageError(
            "a sample is a share of the objects", expected="more than 0, at most 1", found=arguments.sample
        )
    key = public_key_file(arguments.key) if arguments.key else None

    def tell(proof: Proof) -> None:
        if not arguments.json:
            _print_proof(proof)

    found = prove(
        Objects(arguments.url), arguments.recipe, arguments.run, key, arguments.sample, _meter("verify"), tell
    )
    bad = [p for p in found if not p.holds]
    code = ExitCode.FAILED if bad else ExitCode.DONE
    if arguments.json:
        rows = [
            {
                "transfer": p.folder, "holds": p.holds, "objects": p.total.objects, "bytes": p.total.bytes,
                "read": {"objects": p.read.objects, "bytes": p.read.bytes}, "signed": p.signed, "problems": p.problems,
            }
            for p in found
        ]  # fmt: skip
        _print_json({"archive": arguments.url.split("?")[0], "exit_code": int(code), "transfers": rows})
    else:
        total = sum(p.total.bytes for p in found)
        print(f"{len(found) - len(bad)} of {len(found)} transfers proven ({total / 1e9:.3g} GB)")
    return code


def _print_proof(proof: Any) -> None:
    state = "proven" if proof.holds else "NOT proven"
    read = "every byte read" if proof.read == proof.total else f"{proof.read.objects} objects read"
    signed = f", {proof.signed}" if proof.signed else ""
    print(f"{proof.folder}: {state}, {proof.total.objects} objects, {proof.total.bytes / 1e9:.3g} GB, {read}{signed}")
    for problem in proof.problems:
        print(f"  {problem}")


def _restore(arguments: argparse.Namespace) -> int:
    from tasks.lake.bring_back import bring_back
    from tasks.lake.cold import thaw
    from tasks.lake.lake import Lake
    from tasks.lake.transfer_manifest import folder_of, read

    archive = Objects(arguments.url)
    manifest, _ = read(archive, folder_of(arguments.recipe, arguments.run))
    keys = [entry.key for entry in manifest.objects]
    found = thaw(archive, keys, arguments.days, arguments.tier)
    deadline = time.monotonic() + 60 * arguments.wait
    while found.waiting and (left := deadline - time.monotonic()) > 0:
        print(f"{found.ready} of {len(keys)} objects at hand, waiting for {found.waiting}", file=sys.stderr)
        time.sleep(min(_LOOK, left))
        found = thaw(archive, keys, arguments.days, arguments.tier)
    answer: dict[str, Any] = {
        "run": arguments.run, "objects": len(keys), "ready": found.ready, "asked": found.asked,
        "under_way": found.under_way,
    }  # fmt: skip
    if found.waiting:
        sentence = (
            f"{found.ready} of {len(keys)} objects at hand; {found.asked} asked for now, {found.under_way} on their way"
        )
        return _said(arguments, answer | {"exit_code": int(ExitCode.TRANSIENT)}, sentence, ExitCode.TRANSIENT)
    if not arguments.to:
        return _said(arguments, answer | {"exit_code": 0}, f"all {len(keys)} objects are at hand", ExitCode.DONE)
    count = bring_back(archive, manifest, Lake(arguments.to), _meter(arguments.run))
    sentence = (
        f"{arguments.run}: {count.objects} objects ({count.bytes / 1e9:.3g} GB) are in {arguments.to.split('?')[0]}"
    )
    return _said(arguments, answer | {"bytes": count.bytes, "exit_code": 0}, sentence, ExitCode.DONE)


def _said(arguments: argparse.Namespace, answer: dict[str, Any], sentence: str, code: ExitCode) -> int:
    if arguments.json:
        _print_json(answer)
    else:
        print(sentence)
    return code


def _lifecycle(arguments: argparse.Namespace) -> int:
    from tasks.lake.storage_class import put_lifecycle
    from tasks.lake.storage_rules import lifecycle

    recipe = recipes.load(arguments.recipe)
    target = Objects(arguments.to)
    at = target.location
    if at.scheme != "s3":
        raise UsageError(f"{arguments.to} has no lifecycle rules; only S3 does")
    if not recipe.storage:
        raise UsageError(f"{recipe.name} has no storage classes by age: its recipe has no 'storage'")
    below = f"{at.prefix}/" if at.prefix else ""
    found = lifecycle(recipe.name, recipe.storage, [below + prefix for prefix in _aging(target, recipe.name)])
    for note in found.notes:
        print(note, file=sys.stderr)
    configuration = put_lifecycle(target, recipe.name, found.configuration) if arguments.put else found.configuration
    sys.stdout.write(orjson.dumps(configuration, option=0 if arguments.json else orjson.OPT_INDENT_2).decode() + "\n")
    return ExitCode.DONE


def _aging(target: Objects, recipe: str) -> list[str]:
    """Prefixes below which large objects age. Of a cube, its chunks only: it does not open without its metadata."""
    pointers = [m.key for m in target.folder(f"cubes/{recipe}") if m.key.endswith(".json")]
    paths = [str(orjson.loads(target.get(key))["path"]) for key in pointers]
    return [f"raw/{recipe}/", f"exports/{recipe}/", *(f"{path}/chunks/" for path in paths)]


if __name__ == "__main__":
    raise SystemExit(main())
