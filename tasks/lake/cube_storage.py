"""Where the repository of a cube lies, in Icechunk's words."""

from pathlib import Path
from typing import Any

from . import credentials
from .objects import Objects


def storage(objects: Objects, path: str) -> Any:
    """The storage of the repository at ``path`` inside a store. It holds no secret: keys are asked for where they are
    used, of the environment or of what the store's URL refers to."""
    import icechunk

    at = objects.location
    if at.is_local:
        return icechunk.local_filesystem_storage(str(Path(at.prefix) / path))
    prefix = f"{at.prefix}/{path}" if at.prefix else path
    endpoint, reference = at.option("endpoint"), at.option("credentials")
    anonymous = at.option("anonymous") == "true"
    own = credentials.Icechunk(reference) if reference and credentials.keys(reference) is not None else None
    return icechunk.s3_storage(
        bucket=at.bucket,
        prefix=prefix,
        region=at.option("region"),
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=bool(endpoint),
        anonymous=anonymous or None,
        from_env=None if anonymous or own else True,
        get_credentials=own,
    )


def config(objects: Objects) -> Any:
    """How a repository is opened: where new chunks go, when the store's URL names a storage class; else None."""
    import icechunk

    name = objects.location.option("storage_class")
    return icechunk.RepositoryConfig(storage=icechunk.StorageSettings(chunks_storage_class=name)) if name else None
