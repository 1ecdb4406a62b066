"""What the survey knows of a collection and of its sampled granule, as it is kept in the lake."""

from typing import Any

import msgspec

_ROLES = ("ARCHIVER", "DISTRIBUTOR", "PROCESSOR", "ORIGINATOR")
_DATA = ("GET DATA", "GET DATA VIA DIRECT ACCESS")


class Collection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A collection as the catalogue lists it. ``credentials`` is where temporary S3 keys are to be had."""

    id: str
    short_name: str = ""
    version: str = ""
    data_center: str = ""
    processing_level: str = ""
    granules: int | None = None
    format: str | None = None
    credentials: str | None = None


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A collection with the granule that stands for it; ``granule`` is None where it has none.

    ``index`` is the granule's place among the ``hits`` granules in order of their start.
    """

    collection: Collection
    seed: int
    hits: int = 0
    index: int | None = None
    granule: str | None = None
    links: tuple[str, ...] = ()
    format: str | None = None
    credentials: str | None = None


def collection(item: Any) -> Collection:
    """A collection from an item of ``collections.umm_json`` (UMM-C)."""
    meta, umm = item["meta"], item.get("umm") or {}
    direct = umm.get("DirectDistributionInformation") or {}
    return Collection(
        id=str(meta["concept-id"]),
        short_name=str(umm.get("ShortName") or ""),
        version=str(umm.get("Version") or ""),
        data_center=_data_center(umm) or str(meta.get("provider-id") or ""),
        processing_level=str((umm.get("ProcessingLevel") or {}).get("Id") or ""),
        granules=meta.get("granule-count"),
        format=_format(umm),
        credentials=direct.get("S3CredentialsAPIEndpoint"),
    )


def sample(of: Collection, seed: int, hits: int, index: int, item: Any) -> Sample:
    """The sample from an item of ``granules.umm_json`` (UMM-G)."""
    umm = item.get("umm") or {}
    related = [u for u in umm.get("RelatedUrls") or () if isinstance(u, dict) and u.get("URL")]
    links = tuple(dict.fromkeys(str(u["URL"]).strip() for u in related if u.get("Type") in _DATA))
    keys = next((str(u["URL"]) for u in related if str(u["URL"]).rstrip("/").endswith("/s3credentials")), None)
    return Sample(
        collection=of,
        seed=seed,
        hits=hits,
        index=index,
        granule=str(item["meta"]["concept-id"]),
        links=links,
        format=_granule_format(umm),
        credentials=keys or of.credentials,
    )


def _data_center(umm: Any) -> str | None:
    """Short name of who keeps the data: the first with the role nearest to archiving."""
    centers = umm.get("DataCenters") or ()
    for role in _ROLES:
        for center in centers:
            if role in (center.get("Roles") or ()):
                return str(center.get("ShortName") or "") or None
    return None


def _format(umm: Any) -> str | None:
    found = umm.get("ArchiveAndDistributionInformation") or {}
    for part in ("FileDistributionInformation", "FileArchiveInformation"):
        for file in found.get(part) or ():
            if file.get("Format"):
                return str(file["Format"])
    return None


def _granule_format(umm: Any) -> str | None:
    for file in (umm.get("DataGranule") or {}).get("ArchiveAndDistributionInformation") or ():
        if file.get("Format"):
            return str(file["Format"])
    return None
