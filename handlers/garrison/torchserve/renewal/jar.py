"""Reduce TorchServe's jar: the published jar's bytes enter, the bytes of the renewed jar leave.

Kept is what a list names, by package; all else is gone. The result depends on the input alone, not on the clock and not
on the compression library: entries are sorted, dated alike and not compressed. So it has one digest, written here.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable

from garrison.errors import ConfigError
from garrison.torchserve.renewal.classes import cut_instructions, empty_method

JAR = "model-server.jar"
STOCK_SHA256 = "ce340411ce54beaacd3dcfa31644a9aa369a83a36ed687172ba1088a13123dfe"  # of torchserve 0.12.0 on PyPI
RENEWED_SHA256 = "511fbbeb2ab083975fc0c85434cb16e37e4cc53899d51da72e8b5d4126c96e7d"
_EPOCH = (1980, 1, 1, 0, 0, 0)

KEPT = (
    "META-INF/DEPENDENCIES",
    "META-INF/MANIFEST.MF",
    "META-INF/org/apache/logging/",
    "META-INF/services/org.apache.logging.",
    "LICENSE.txt",
    "com/google/gson/",
    "io/prometheus/client/",
    "org/apache/commons/cli/",
    "org/apache/commons/io/",
    "org/apache/logging/",
    "org/pytorch/serve/",
    "org/slf4j/",
    "org/yaml/snakeyaml/",
    "proto/",  # read to describe the API
)
REMOVED = (  # of what is kept
    # Workflows: `POST /workflows` fetches an archive and runs the Python in it; no setting prevents that.
    "org/pytorch/serve/workflow/",
    "org/pytorch/serve/ensemble/",
    "org/pytorch/serve/archive/workflow/Manifest",
    "org/pytorch/serve/archive/workflow/WorkflowArchive",
    # gRPC: two servers on TCP that no setting switches off, with an old netty of their own.
    "org/pytorch/serve/grpc/",
    "org/pytorch/serve/grpcimpl/",
    "org/pytorch/serve/job/GRPC",
    "org/pytorch/serve/util/GRPC",
    # What a logger could be told to look up or to call.
    "org/apache/logging/log4j/core/appender/db/",
    "org/apache/logging/log4j/core/appender/mom/",
    "org/apache/logging/log4j/core/appender/nosql/",
    "org/apache/logging/log4j/core/lookup/Jndi",
    "org/apache/logging/log4j/core/selector/Jndi",
)


def _edit_start(data: bytes) -> bytes:
    """Start without workflows and without gRPC; whoever asks for a gRPC server gets none, which stopping allows for."""
    data = cut_instructions(data, "2a b40025 b8010b")  # WorkflowManager.init(this.configManager)
    return empty_method(data, "startGRPCServer", "(Lorg/pytorch/serve/util/ConnectorType;)Lio/grpc/Server;")


def _edit_listeners(data: bytes) -> bytes:
    """Leave the two handlers of workflows out of the chain of handlers of a connection."""
    data = cut_instructions(data, "1906 bb006d59b7006f b60059 3a06")  # chain = chain.setNextHandler(new Workflow...)
    return cut_instructions(data, "1906 bb008f59b70091 b60059 3a06")


def _edit_unpacking(data: bytes) -> bytes:
    """Unpack nothing, in whatever format: models are directories here, and this code knows no limits."""
    for name, descriptor in (
        ("unzip", "(Ljava/io/InputStream;Ljava/io/File;)V"),
        ("unzip", "(Ljava/io/InputStream;Ljava/lang/String;Ljava/lang/String;Z)Ljava/io/File;"),
        ("decompressTarGzipFile", "(Ljava/io/InputStream;Ljava/io/File;)V"),
    ):
        data = empty_method(data, name, descriptor)
    return data


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "org/pytorch/serve/ModelServer.class": _edit_start,
    "org/pytorch/serve/ServerInitializer.class": _edit_listeners,
    "org/pytorch/serve/archive/utils/ZipUtils.class": _edit_unpacking,
}


def renew_jar(stock: bytes) -> bytes:
    """Return the renewed jar.

    Raises:
        ConfigError: the jar is not the published one.
    """
    found = hashlib.sha256(stock).hexdigest()
    if found != STOCK_SHA256:
        raise ConfigError(
            f"{JAR}: not the one of torchserve 0.12.0 on PyPI (SHA-256 {found}), and no other can be renewed; "
            "install it again: pip install --force-reinstall --no-deps torchserve==0.12.0"
        )
    renewed = _write_jar(stock)
    if hashlib.sha256(renewed).hexdigest() != RENEWED_SHA256:
        raise ConfigError(f"{JAR}: the renewed jar is not what this release of Garrison makes; report this")
    return renewed


def _write_jar(stock: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(stock)) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(filter(is_kept, source.namelist())):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            data = source.read(name)
            target.writestr(entry, EDITS[name](data) if name in EDITS else data)
    return written.getvalue()


def is_kept(name: str) -> bool:
    """Say whether an entry of the published jar is in the renewed one."""
    return name.startswith(KEPT) and not name.startswith(REMOVED) and not name.endswith("/")
