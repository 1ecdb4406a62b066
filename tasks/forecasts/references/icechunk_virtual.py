"""An Icechunk repository of virtual references: the refined cube's axes, the provider's bytes.

Group and coordinates are those of the refined cube; each chunk is a GRIB message where it lies, with the etag (or the
time of change) that its object had, so that a reader of an object that was republished gets an error and no data.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...lake.cube_storage import storage
from ...lake.cube_template import ArrayTemplate, CubeTemplate
from ...lake.cubes import MAIN, Cube
from ...lake.errors import ConflictError, UsageError
from ...lake.objects import locate
from ...lake.partition import Output, digest_json
from ...lake.run_axis import RUN_AXIS, RUN_COORDINATES, grow
from ..recipe import ForecastRecipe
from ..template import Template
from .codec import GribCodec
from .layout import ABSENT, Block, RunReferences
from .places import Container, Place

if TYPE_CHECKING:
    import icechunk

_TRIES = 50
_RUNS_PER_CHUNK = 1024
_COORDINATES = {name: axis for name, axis in RUN_COORDINATES.items() if name != "status"}
"""What is said of a run: nothing of its data was checked, so there is no verdict."""


class VirtualCube(Cube):
    """The repository of one recipe's virtual references."""

    @cached_property
    def repository(self) -> "icechunk.Repository":
        """The repository, with access to the containers it names. Raises ``NotFound``."""
        import icechunk

        icechunk.set_logs_filter("error")
        with self._typed():
            plain = icechunk.Repository.open(storage(self.objects, self.path))
            return plain.reopen(authorize_virtual_chunk_access=_access(plain))

    def write(
        self, structure: CubeTemplate, subs: Mapping[str, int], run: RunReferences, places: Sequence[Place], digest: str
    ) -> str:
        """Commit a run's references to ``main``, unless that holds them already; a chunk of the run that is there.

        Raises ``UsageError`` when the repository has another layout, ``ConflictError`` when others keep committing.
        """
        containers = {p.container for p in places}
        scope = f"{run.run:%Y-%m-%dT%H}"
        failure = ConflictError(f"{self.path}: {scope} could not be committed")
        for attempt in range(_TRIES):
            try:
                with self.changing():
                    self._ensure(structure, containers)
                    if self._digest(scope) != digest:
                        self._commit_run(structure, subs, run, places, scope, digest)
                    return _first_chunk(structure, run)
            except ConflictError as error:
                # Another run was committed in between. References are cheap to set again, on the new tip.
                failure = error
                time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
        raise failure

    def _digest(self, scope: str) -> str | None:
        """What the latest commit of a run is of."""
        for snapshot in self.repository.ancestry(branch=MAIN):
            if snapshot.metadata.get("run") == scope:
                return str(snapshot.metadata.get("references"))
        return None

    def _ensure(self, structure: CubeTemplate, containers: set[Container]) -> None:
        """Make the repository where there is none, and name every container that is not named yet."""
        import icechunk

        icechunk.set_logs_filter("error")
        self.__dict__.pop("repository", None)
        place = storage(self.objects, self.path)
        if not icechunk.Repository.exists(place):
            try:
                icechunk.Repository.create(place, config=_config())
            except icechunk.IcechunkError as error:
                if "clean prefix" not in str(error) and not icechunk.Repository.exists(place):
                    raise
                # Made by somebody else since, perhaps only half of it yet.
                raise ConflictError(f"{self.path} is being made by somebody else") from None
        known = self.repository.get_metadata()
        if "weatherlake_cube" not in known:
            # Whoever else makes it at the same time writes the same: the identity is that of its first snapshot.
            born = list(self.repository.ancestry(branch=MAIN))[-1].written_at
            identity = digest_json([self.path, born.isoformat()]).removeprefix("sha256:")[:32]
            known = {"weatherlake_cube": identity, "layout": structure.digest}
            self.repository.set_metadata(known)
        if known["layout"] != structure.digest:
            raise UsageError(
                f"{self.path} in {self.objects.url} has another layout (grid, steps, members, levels or first run); "
                "remove it, or give the recipe another name"
            )
        config = self.repository.config
        there = config.virtual_chunk_containers or {}
        lacking = [c for c in sorted(containers, key=lambda c: c.prefix) if there.get(c.prefix) is None]
        if lacking:
            for container in lacking:
                config.set_virtual_chunk_container(
                    icechunk.VirtualChunkContainer(container.prefix, _store(container.store))
                )
            changed = self.repository.reopen(config=config)
            try:
                changed.save_config()
            except icechunk.IcechunkError as error:
                # Somebody else's, or what stands in the way of any: the last try's error is the one that is told.
                raise ConflictError(f"{self.path} cannot be configured ({str(error).splitlines()[0]})") from None
            self.__dict__["repository"] = changed.reopen(authorize_virtual_chunk_access=_access(changed))

    def _commit_run(
        self, structure: CubeTemplate, subs: Mapping[str, int], run: RunReferences, places: Sequence[Place],
        scope: str, digest: str,
    ) -> None:  # fmt: skip
        import zarr

        index = structure.index(run.run)
        session = self.repository.writable_session(MAIN)
        group: Any = zarr.open_group(session.store, mode="a")
        was_there = RUN_AXIS in group and group[RUN_AXIS].shape[0] > index
        _structure(group, structure, subs, self.path)
        grow(group, index)
        _enter(group, structure, index, run)
        for block in run.blocks:
            if was_there:
                _forget(session.store, block.variable.name, index)
            _refer(session.store, block, structure.arrays[block.variable.name], run, places, index)
        session.commit(f"references of {scope}", metadata={"run": scope, "references": digest})


def structure_of(recipe: ForecastRecipe, template: Template) -> CubeTemplate:
    """The refined cube's structure with the fields as the messages hold them: the source's grid, a chunk a field."""
    cube = template.cube(recipe)
    grid = template.grid
    own = {name: (dims, np.asarray(v), attrs) for name, (dims, v, attrs) in grid.coordinates().items()}
    arrays = {}
    for name, array in cube.arrays.items():
        outer = len(array.dims) - len(grid.dims)
        arrays[name] = replace(
            array,
            dims=(*array.dims[:outer], *grid.dims),
            shape=(*array.shape[:outer], *grid.shape),
            chunks=(*([1] * outer), *grid.shape),
            shards=(*([1] * outer), *grid.shape),
            attributes={k: v for k, v in array.attributes.items() if k != "keep_bits"},
        )
    return replace(cube, coordinates={**cube.coordinates, **own}, arrays=arrays)


def write_virtual(
    cube: VirtualCube, recipe: ForecastRecipe, template: Template, run: RunReferences, places: Sequence[Place]
) -> Output:
    """Commit a run to the repository; the output that stands for it."""
    structure = structure_of(recipe, template)
    subs = {b.variable.name: run.sub_of(b) for b in run.blocks}
    arrays = [[n, a.dims, a.shape, dict(a.attributes)] for n, a in structure.arrays.items()]
    versions = [[p.location, str(p.checksum)] for p in places]
    digest = digest_json([run.digest, structure.digest, arrays, versions])
    chunk = cube.write(structure, subs, run, places, digest)
    return Output(f"cube:{cube.path}#{cube.identity}/{chunk}", digest, int(run.length[run.source != ABSENT].sum()))


def _config() -> "icechunk.RepositoryConfig":
    """A manifest a run and variable: another run leaves those of the runs before alone."""
    import icechunk
    from icechunk import ManifestSplitCondition as Arrays
    from icechunk import ManifestSplitDimCondition as Dimension

    config = icechunk.RepositoryConfig.default()
    by_run = icechunk.ManifestSplittingConfig.from_dict(
        {Arrays.AnyArray(): {Dimension.DimensionName(RUN_AXIS): 1, Dimension.Any(): 2**31 - 1}}
    )
    config.manifest = icechunk.ManifestConfig(splitting=by_run)
    return config


def _store(url: str) -> Any:
    """How Icechunk reaches a store of ours."""
    import icechunk

    at = locate(url)
    if at.is_local:
        return icechunk.local_filesystem_store(at.prefix)
    if at.scheme == "s3":
        endpoint = at.option("endpoint")
        return icechunk.s3_store(
            region=at.option("region"), endpoint_url=endpoint, force_path_style=bool(endpoint),
            allow_http=bool(endpoint and endpoint.startswith("http://")), s3_compatible=bool(endpoint),
            anonymous=at.option("anonymous") == "true",
        )  # fmt: skip
    return icechunk.http_store({"allow_http": "true"})


def _access(repository: "icechunk.Repository") -> dict[str, Any]:
    """Credentials for every container of a repository: none, or those of the environment."""
    import icechunk

    found: dict[str, Any] = {}
    for prefix, container in (repository.config.virtual_chunk_containers or {}).items():
        if prefix.startswith("file://"):
            found[prefix] = icechunk.credentials.LocalFileSystemAccess
        elif prefix.startswith("http"):
            found[prefix] = icechunk.credentials.HttpAccess
        elif prefix.startswith("s3://"):
            found[prefix] = (
                icechunk.s3_anonymous_credentials() if _is_anonymous(container) else icechunk.s3_from_env_credentials()
            )
    return icechunk.containers_credentials(found)


def _is_anonymous(container: Any) -> bool:
    return bool(container.store[0].anonymous)


def _structure(group: Any, structure: CubeTemplate, subs: Mapping[str, int], path: str) -> None:
    """Make what is not there yet: attributes, coordinates, arrays."""
    names = [*_COORDINATES, *structure.coordinates]
    dimensions = {RUN_AXIS, "lead_time"}.union(*(dims for dims, _, _ in structure.coordinates.values()))
    plain = " ".join(n for n in names if n not in dimensions)
    attributes = {"Conventions": "CF-1.11", **structure.attributes, "coordinates": plain}
    if dict(group.attrs) != attributes:
        group.attrs.put(attributes)
    for name, (dims, values, attrs) in structure.coordinates.items():
        if name not in group:
            made = group.create_array(
                name, shape=values.shape, chunks=tuple(max(n, 1) for n in values.shape), dtype=values.dtype,
                dimension_names=list(dims), attributes=dict(attrs), config={"write_empty_chunks": True},
            )  # fmt: skip
            made[...] = values
    lengths = {RUN_AXIS: 0, "lead_time": len(structure.lead_time)}
    for name, axis in _COORDINATES.items():
        if name not in group:
            group.create_array(
                name, shape=tuple(lengths[d] for d in axis.dims), fill_value=axis.fill, dtype=axis.dtype,
                chunks=tuple(lengths[d] or _RUNS_PER_CHUNK for d in axis.dims), dimension_names=list(axis.dims),
                attributes=dict(axis.attributes), config={"write_empty_chunks": True},
            )  # fmt: skip
    for name, array in structure.arrays.items():
        if name not in group:
            _create(group, name, array, GribCodec(subs.get(name, 0)))
        else:
            _same(path, name, group[name], array, subs.get(name, 0))


def _create(group: Any, name: str, array: ArrayTemplate, codec: GribCodec) -> None:
    group.create_array(
        name, shape=(0, *array.shape), chunks=(1, *array.chunks), dtype=array.dtype, fill_value=float("nan"),
        dimension_names=[RUN_AXIS, *array.dims], attributes=dict(array.attributes), serializer=codec, compressors=None,
        filters=None,
    )  # fmt: skip


def _same(path: str, name: str, found: Any, wanted: ArrayTemplate, sub: int) -> None:
    there = (tuple(found.shape[1:]), found.serializer.sub)
    if there != (tuple(wanted.shape), sub):
        raise UsageError(
            f"variable {name} of {path} has another layout (shape, field of the message)",
            expected=(tuple(wanted.shape), sub), found=there,
        )  # fmt: skip
    if dict(found.attrs) != dict(wanted.attributes):
        found.attrs.put(dict(wanted.attributes))


def _enter(group: Any, structure: CubeTemplate, index: int, run: RunReferences) -> None:
    """Say of a run when it began and how far it goes."""
    count = group[RUN_AXIS].shape[0]
    first = structure.start.timestamp()
    inits = (first + structure.interval.total_seconds() * np.arange(count)).astype("int64")
    leads = np.asarray(structure.lead_time, dtype="int64") * 3600
    if not np.array_equal(group[RUN_AXIS][:], inits):
        group[RUN_AXIS][:] = inits
        group["valid_time"][:] = inits[:, None] + leads[None, :]
    group["expected_forecast_length"][index] = run.expected
    group["ingested_forecast_length"][index] = run.reach


def _forget(store: "icechunk.IcechunkStore", name: str, index: int) -> None:
    """Remove the references an earlier manifest of the run left."""
    from zarr.core.sync import sync

    sync(store.delete_dir(f"{name}/c/{index}"))


def _refer(
    store: "icechunk.IcechunkStore", block: Block, array: ArrayTemplate, run: RunReferences, places: Sequence[Place],
    index: int,
) -> None:  # fmt: skip
    """Set the references of one variable: a call for every step and object, as a call has one checksum."""
    source, offset, length = (run.cut(a, block) for a in (run.source, run.offset, run.length))
    members, _, levels = source.shape
    outer = ([members] if run.members is not None else []) + ([levels] if block.is_layered else [])
    grid = len(array.shape) - 1 - len(outer)
    shape = (1, 1, *outer, *([1] * grid))
    for lead in range(len(run.lead_times)):
        here = source[:, lead]
        for number in np.unique(here[here != ABSENT]).tolist():
            place = places[number]
            refused = store.set_virtual_refs_arr(
                f"/{block.variable.name}", shape,
                np.where(here == number, place.location, "").ravel().tolist(),
                offset[:, lead].astype(np.uint64).ravel(), length[:, lead].astype(np.uint64).ravel(),
                arr_offset=(index, lead, *([0] * (len(outer) + grid))), checksum=place.checksum,
            )  # fmt: skip
            if refused:
                raise UsageError(f"Icechunk refuses references to {place.location}, below {place.container.prefix}")


def _first_chunk(structure: CubeTemplate, run: RunReferences) -> str:
    """Key of a chunk of this run that is there: it stands for all of it."""
    index = structure.index(run.run)
    for block in run.blocks:
        there = np.argwhere(run.cut(run.source, block) != ABSENT)
        if len(there):
            member, lead, level = (int(n) for n in there[0])
            at = [lead] + ([member] if run.members is not None else []) + ([level] if block.is_layered else [])
            array = structure.arrays[block.variable.name]
            return array.chunk_key(block.variable.name, index, *at, *([0] * (len(array.shape) - len(at))))
    return f"{RUN_AXIS}/c/{index // _RUNS_PER_CHUNK}"
