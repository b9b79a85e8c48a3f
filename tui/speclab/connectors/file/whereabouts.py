"""Where the file or files of a system are: on this machine, or in a store elsewhere."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit
from urllib.request import url2pathname

from speclab.connectors.file.place import LocalPlace, LocalSource, Place, Source
from speclab.connectors.references import References
from speclab.spec.systems.file import FileSystem, is_elsewhere


def source_of(system: FileSystem, references: References) -> Source:
    """Where the files of `system` (references resolved) are read. Raises `SpecError` where there is no driver."""
    if not is_elsewhere(system.path):
        return LocalSource(_local(system.path), references.base)
    from speclab.connectors.file.remote import RemoteSource
    from speclab.connectors.file.store import Store

    return RemoteSource(Store(system.path, system.options, system.limits.timeout, references.redactor))


def place_of(system: FileSystem, references: References) -> Place:
    """Where the file of `system` (references resolved) is written. Raises `SpecError` if it cannot be, there."""
    if not is_elsewhere(system.path):
        path = _local(system.path)
        return LocalPlace(path, references.base / path)
    from speclab.connectors.file.remote import RemotePlace
    from speclab.connectors.file.store import Store

    store = Store(system.path, system.options, system.limits.timeout, references.redactor)
    place = hashlib.sha256(system.destination().encode()).hexdigest()[:16]  # one key may be in two stores
    return RemotePlace(store, references.base / ".speclab" / "files" / f"{place}.speclab")


def _local(path: str) -> str:
    return url2pathname(urlsplit(path).path) if path.startswith("file://") else path
