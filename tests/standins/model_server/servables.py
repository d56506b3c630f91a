"""Loads versions of models as TensorFlow's sessions, unloads them, and finds the one that is meant.

As model_servers/server_core.cc, core/servable_state_monitor.cc and servables/tensorflow/saved_model_bundle_factory.cc;
`tf.compat.v1.saved_model.load` is what cc/saved_model/loader.cc does: restore, then the initialiser with its assets.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session
from tensorflow_serving.apis import get_model_status_pb2

from standins.model_server import batching, storage
from standins.model_server.failures import Failure, from_number, invalid

State = get_model_status_pb2.ModelVersionStatus
PLATFORM = "tensorflow"
POLL_S = 0.05
MAX_RELOAD_S = 60


@dataclass
class Version:
    """One version: its state and, while it is available, its session and its graph's description."""

    model: str
    number: int
    path: Path
    state: int = State.LOADING
    error: Failure | None = None
    session: Any = None
    graph: Any = None
    signatures: dict[str, Any] = field(default_factory=dict)

    def run(self, inputs: dict[str, Any], outputs: Sequence[str], timeout_ms: int | None) -> list[Any]:
        """Run the session: tensors by name enter, arrays leave, in the order of `outputs`.

        Raises:
            Failure: with TensorFlow's own code and words.
        """
        options = None
        try:
            if timeout_ms is not None:
                text = tf.compat.v1.RunOptions(timeout_in_ms=max(1, timeout_ms)).SerializeToString()
                options = pywrap_tf_session.TF_NewBufferFromString(text)
            feeds = {self._tensor(name): array for name, array in inputs.items()}
            fetches = [self._tensor(name) for name in outputs]
            return list(self.session._call_tf_sessionrun(options, feeds, fetches, [], None))
        except tf.errors.OpError as error:
            raise from_number(error.error_code, error.message) from error
        except (KeyError, TypeError, ValueError) as error:
            raise invalid(str(error)) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def _tensor(self, name: str) -> Any:
        return self.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")._as_tf_output()


class Servables:
    """All versions of all models: what `ServerCore` holds."""

    def __init__(self, flags: dict[str, Any]) -> None:
        self._flags = flags
        self.batching = storage.read_batching(flags)
        self._config = storage.read_configuration(flags)
        self._versions: dict[tuple[str, int], Version] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._lock = threading.RLock()

    def start(self) -> None:
        """Load what is configured, and watch the base paths from then on.

        Raises:
            Failure: a model did not become available.
        """
        self._check_names(self._config.model_config_list.config)
        self._labels = self._read_labels(self._config)  # before anything is available: see the flag for such labels
        while not self._poll():
            time.sleep(max(self._flags["file_system_poll_wait_seconds"], POLL_S))
        broken = [v for v in self._versions.values() if v.error is not None]
        if broken:
            named = ", ".join(f"{{name: {v.model} version: {v.number}}}" for v in broken)
            told = "; ".join(v.error.message for v in broken if v.error)
            raise Failure(
                grpc.StatusCode.UNKNOWN,
                f"{len(broken)} servable(s) did not become available: {{{named} due to error: {told}}}",
            )
        if self._flags["file_system_poll_wait_seconds"] > 0:
            threading.Thread(target=self._watch, daemon=True).start()

    def reload(self, config: Any) -> None:
        """Take another configuration: what HandleReloadConfigRequest does, from whomever it comes.

        Raises:
            Failure: upstream does not accept it, or a model did not become available.
        """
        models = config.model_config_list.config
        with self._lock:
            if config.WhichOneof("config") is None:
                return
            self._check_names(models)
            labels = self._read_labels(config)
            self._config, self._labels = config, labels
        end = time.monotonic() + MAX_RELOAD_S
        while not self._poll() or not all(self._has_any(model.name) for model in models):
            if time.monotonic() > end:
                raise Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "the models did not become available")
            time.sleep(POLL_S)
        for version in self._of(models):
            if version.error is not None:
                raise Failure(grpc.StatusCode.UNKNOWN, version.error.message)

    def find(self, spec: Any) -> Version:
        """Return the version that a ModelSpec means.

        Raises:
            Failure: it is none, or it is not available.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        with self._lock:
            if choice is None:
                numbers = [v.number for v in self._available(spec.name)]
                asked, number = f"Latest({spec.name})", max(numbers, default=-1)
            else:
                number = spec.version.value if choice == "version" else self._by_label(spec.name, spec.version_label)
                asked = f"Specific({spec.name}, {number})"
            version = self._versions.get((spec.name, number))
        if version is None or version.state != State.AVAILABLE:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return version

    def states(self, name: str) -> dict[int, Version]:
        """Return every version of a model that was ever there, newest first."""
        with self._lock:
            numbers = sorted((number for model, number in self._versions if model == name), reverse=True)
            return {number: self._versions[name, number] for number in numbers}

    def _by_label(self, name: str, label: str) -> int:
        if label not in self._labels.get(name, {}):
            raise invalid(f"Unrecognized servable version label: {label}")
        return self._labels[name][label]

    def _read_labels(self, config: Any) -> dict[str, dict[str, int]]:
        for model in config.model_config_list.config:
            available = {version.number for version in self._available(model.name)}
            known = self._labels.get(model.name, {})
            for label, number in model.version_labels.items():
                fresh = (
                    self._flags["allow_version_labels_for_unavailable_models"] and known.get(label, number) == number
                )
                if number not in available and not fresh:
                    raise Failure(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, which is not currently "
                        "available for inference",
                    )
        return {model.name: dict(model.version_labels) for model in config.model_config_list.config}

    def _check_names(self, models: Any) -> None:
        names = [model.name for model in models]
        for model in models:
            if names.count(model.name) > 1:
                raise invalid(f"Illegal to list model {model.name} multiple times in config list")
            if model.model_platform != PLATFORM and not model.model_type:
                raise invalid(
                    f"Illegal setting neither ModelServerConfig::model_type nor model_platform for {model.name}"
                )

    def _watch(self) -> None:
        while True:
            time.sleep(self._flags["file_system_poll_wait_seconds"])
            self._poll()

    def _poll(self) -> bool:
        """Load and unload what changed on the disk; False where a base path is missing, which stops all of it."""
        with self._lock:
            try:
                wanted = {
                    (model.name, number): path
                    for model in self._config.model_config_list.config
                    for number, path in storage.find_versions(model).items()
                }
            except storage.BasePathMissing as error:
                say(str(error))
                return False
            for key, path in wanted.items():
                if key not in self._versions or self._versions[key].state == State.END:
                    self._versions[key] = self._load(Version(*key, path))
            for key, version in self._versions.items():
                if key not in wanted and version.state == State.AVAILABLE:
                    version.state, version.session, version.graph = State.END, None, None
        return True

    def _load(self, version: Version) -> Version:
        for attempt in range(self._flags["max_num_load_retries"] + 1):
            if attempt:
                time.sleep(self._flags["load_retry_interval_micros"] / 1e6)
            try:
                self._load_once(version)
                version.state, version.error = State.AVAILABLE, None
                say(f"Successfully loaded servable version {{name: {version.model} version: {version.number}}}")
                break
            except (tf.errors.OpError, OSError, ValueError, RuntimeError, Failure) as error:
                code = getattr(error, "error_code", 0) or grpc.StatusCode.UNKNOWN.value[0]
                version.state, version.error = State.END, from_number(code, str(error))
                say(f"Loading servable {version.model} {version.number} failed: {error}")
        return version

    def _load_once(self, version: Version) -> None:
        parallel = self._flags["tensorflow_session_parallelism"]
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=self._flags["tensorflow_intra_op_parallelism"] or parallel,
            inter_op_parallelism_threads=self._flags["tensorflow_inter_op_parallelism"] or parallel,
        )
        version.graph = tf.Graph()
        version.session = tf.compat.v1.Session(graph=version.graph, config=config)
        with version.graph.as_default():
            tags = self._flags["saved_model_tags"].split(",")
            description = tf.compat.v1.saved_model.load(version.session, tags, os.fspath(version.path))
        version.signatures = dict(description.signature_def)
        version.session._extend_graph()

    def _available(self, name: str) -> list[Version]:
        return [v for (model, _), v in self._versions.items() if model == name and v.state == State.AVAILABLE]

    def _has_any(self, name: str) -> bool:
        return any(model == name for model, _ in self._versions)

    def _of(self, models: Any) -> list[Version]:
        names = {model.name for model in models}
        return [version for (name, _), version in self._versions.items() if name in names]

    def check_batch(self, inputs: dict[str, Any]) -> None:
        """Refuse, or hang, where upstream's batching does."""
        if self.batching is not None:
            batching.check_batch(self.batching, inputs)

    def check_outputs(self, inputs: dict[str, Any], outputs: list[Any]) -> None:
        """Refuse what upstream's batching cannot take apart."""
        if self.batching is not None:
            batching.check_outputs(inputs, outputs)


def say(text: str) -> None:
    """Write a line into the log, as upstream's is: standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the log
