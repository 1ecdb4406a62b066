"""Weights in the lake: made once, by whoever asks first; taken over from the dead; read by all."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from tasks.grids import store
from tasks.grids.apply import apply, lazily
from tasks.grids.grid import from_coordinates, from_spec
from tasks.grids.named import from_name
from tasks.grids.request import Request
from tasks.grids.spec import GridSpec
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import lineage, utcnow
from tasks.lake.partition import Partition, Status

from .oracle import grid

ROOT = Path(__file__).resolve().parents[2]


def request(**options) -> Request:
    return Request(source=grid("g5"), target=grid("g2"), method="conservative", **options)


@pytest.fixture
def lake(store_url: str) -> Lake:
    made = Lake(store_url)
    made.prepare()
    return made


def test_ten_at_once_make_them_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    made, answer = [], store.answer
    monkeypatch.setattr(store, "_LOOK_AGAIN", 0.01)

    def counted(*args):
        made.append(threading.get_ident())
        return answer(*args)

    monkeypatch.setattr(store, "answer", counted)
    with ThreadPoolExecutor(10) as pool:
        keys = set(pool.map(lambda _: store.ensure(Lake(lake.url), request()), range(10)))
    assert len(keys) == len(made) == 1
    record = lake.ledger(store.LEDGER).read("make", request().digest[:16])
    assert record is not None
    assert (record.status, record.attempt, record.outputs[0].uri) == (Status.DONE, 1, keys.pop())


@pytest.mark.slow
def test_processes_at_once_make_them_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    code = (
        "import sys; from tasks.grids import store; from tasks.grids.named import from_name; "
        "from tasks.grids.request import Request; from tasks.lake.lake import Lake; "
        "print(store.ensure(Lake(sys.argv[1]), Request(source=from_name('r360x181'), target=from_name('r72x36'), "
        "method='conservative', backend='curvilinear')))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, lake.url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(keys) == 1
    (record,) = lake.ledger(store.LEDGER).read_all("make").values()
    assert (record.status, record.attempt) == (Status.DONE, 1)


def test_what_is_there_is_not_made_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.ensure(lake, request())
    monkeypatch.setattr(store, "answer", None)
    assert store.ensure(lake, request()) == key


def test_what_is_gone_is_made_again(lake: Lake) -> None:
    key = store.ensure(lake, request())
    before = lake.objects.get(key)
    lake.objects.delete(key)
    assert store.ensure(lake, request()) == key
    assert lake.objects.get(key) == before


def test_a_claim_of_one_that_is_gone_is_taken_over(lake: Lake) -> None:
    work = Partition(key=request().digest[:16], fingerprint=request().digest)
    lake.ledger(store.LEDGER).claim("make", work, lineage(), utcnow() - timedelta(hours=1))
    key = store.ensure(lake, request())
    record = lake.ledger(store.LEDGER).read("make", work.key)
    assert record is not None
    assert (record.status, record.attempt) == (Status.DONE, 2)
    assert lake.objects.head(key) is not None


def test_a_failure_is_recorded_and_the_next_may_try(lake: Lake) -> None:
    outside = Request(source=grid("lcc"), target=grid("eu05"), method="bilinear")
    for attempt in (1, 2):
        with pytest.raises(UsageError, match="wholly outside"):
            store.ensure(lake, outside)
        record = lake.ledger(store.LEDGER).read("make", outside.digest[:16])
        assert record is not None
        assert (record.status, record.attempt) == (Status.FAILED, attempt)
    assert lake.objects.head(outside.key) is None


def test_the_key_knows_everything_that_changes_the_numbers() -> None:
    mask = np.ones((36, 72), bool)
    mask[3, 4] = False
    other = [
        request(norm="dstarea"),
        request(backend="curvilinear"),
        request(extrapolate="nearest"),
        request(source_mask=mask),
        request(source_mask=~mask),
        Request(source=grid("g2"), target=grid("g5"), method="conservative"),
        Request(source=grid("g5"), target=grid("g2"), method="bilinear"),
    ]
    assert len({r.key for r in (request(), *other)}) == 8
    # The pole rule means nothing to a conservative method.
    assert request(pole="none").key == request().key


def test_stored_weights_are_the_made_ones(lake: Lake) -> None:
    key = store.ensure(lake, request(extrapolate="nearest"))
    weights = store.read(lake.url, key)
    weights.check(grid("g5"), grid("g2"))
    assert weights.options == {"extrapolate": "nearest", "norm": "fracarea"}
    assert store.read(lake.url, key) is weights


@pytest.mark.parametrize("target", [from_name("O32"), from_spec(GridSpec(name="a", spacing=5))], ids=["points", "grid"])
def test_a_dask_array_is_regridded_chunk_by_chunk(tmp_path: Path, target) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    source = from_coordinates(np.linspace(90, -90, 37), np.arange(72) * 5.0)
    key = store.ensure(lake, Request(source=source, target=target, method="bilinear"))
    values = np.random.default_rng(0).random((6, *source.shape), dtype="float32")
    values[1, 3, 4] = np.nan
    fields = da.from_array(values, chunks=(2, -1, -1))
    made = lazily(fields, lake.url, key, skipna=True, na_thres=0.5)
    expected = apply(store.read(lake.url, key), values, skipna=True, na_thres=0.5)
    assert (made.shape, made.dtype, made.chunks[0]) == (expected.shape, expected.dtype, (2, 2, 2))
    np.testing.assert_array_equal(made.compute(scheduler="threads"), expected)
    with pytest.raises(UsageError, match="whole fields"):
        lazily(fields.rechunk((2, 9, -1)), lake.url, key)
    with pytest.raises(UsageError, match="source grid"):
        lazily(fields[:, 1:], lake.url, key)


def test_the_graph_carries_no_weights(tmp_path: Path) -> None:
    import cloudpickle

    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    key = store.ensure(lake, request())
    fields = da.zeros((48, 36, 72), chunks=(1, -1, -1), dtype="float32")
    graph = lazily(fields, lake.url, key)
    assert len(cloudpickle.dumps(graph)) < 50_000 < lake.objects.head(key).size  # type: ignore[union-attr]
