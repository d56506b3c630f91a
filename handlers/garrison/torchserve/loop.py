"""Answer the server, inside the cell: TorchServe's own worker, on a connection that was made for it.

TorchServe's class would make a socket, listen and accept by itself; here its supervisor did, and this process can do
none of that. All the rest is TorchServe's.
"""

import json
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.model_service_worker import TorchModelServiceWorker

import garrison.torchserve.base  # noqa: F401 - what every model needs, before anything of the model
from garrison.errors import GarrisonError
from garrison.torchserve.source import describe_error

MAX_TOLD_CHARACTERS = 1000

log = logging.getLogger("garrison.contract")


def serve(connection: socket.socket, metrics_config: str, loaded: Callable[[], None]) -> None:
    """Load the model that the server names, call `loaded`, and answer requests for as long as the server is there.

    Raises:
        SystemExit: always; TorchServe reads the reason in what was printed before.
    """
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    try:
        _Worker(metrics_config, loaded).handle_connection(connection)
    except Exception:
        logging.exception("Backend worker process died.")
    sys.exit(1)


class _Worker(TorchModelServiceWorker):  # type: ignore[misc]
    def __init__(self, metrics_config: str, loaded: Callable[[], None]) -> None:
        """Prepare what TorchServe's own constructor does, without a socket."""
        self.metrics_cache = MetricsCacheYamlImpl(config_file_path=metrics_config)
        self.metrics_cache.initialize_cache()
        self._loaded = loaded

    def load_model(self, load_model_request: dict[str, Any]) -> tuple[Any, str, int]:
        """Load the model, then give up what only loading needs; what fails is told in one line that says why."""
        try:
            service, told, code = super().load_model(load_model_request)
        except Exception as error:
            log.error(json.dumps({"event": "load_failed", "message": _tell_failure(error)}))
            raise
        if service is not None:
            self._loaded()
        return service, told, code


def _tell_failure(error: Exception) -> str:
    told = "; ".join(str(error).splitlines()) if isinstance(error, GarrisonError) else describe_error(error)
    return told[:MAX_TOLD_CHARACTERS]
