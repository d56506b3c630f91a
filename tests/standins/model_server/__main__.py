"""Starts as model_servers/main.cc and server.cc do."""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

import grpc

from standins.model_server import flags as command_line

PROGRAM = "tensorflow_model_server"
FAILED = 255  # upstream's return -1


def main() -> int:
    """Read the command line and serve until SIGTERM, which ends the process at once, as upstream's does."""
    parsed = command_line.parse(sys.argv[1:])
    if parsed is None:
        print(command_line.usage(PROGRAM))  # noqa: T201 - as upstream
        return FAILED
    flags, unknown = parsed
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if flags["version"]:
        print(_versions())  # noqa: T201
        return 0
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{command_line.usage(PROGRAM)}", flush=True)  # noqa: T201
    problem = _find_problem(flags) or _serve(flags)
    print(f"Failed to start server. Error: {problem}", flush=True)  # noqa: T201
    return FAILED


def _versions() -> str:
    tensorflow = metadata.version("tensorflow_cpu")  # not imported: that takes seconds
    return f"TensorFlow ModelServer: stand-in of Garrison's tests\nTensorFlow Library: {tensorflow}"


def _find_problem(flags: dict[str, Any]) -> str:
    """Return what server.cc refuses before it loads anything."""
    if flags["port"] == 0 and not flags["grpc_socket_path"]:
        return "INVALID_ARGUMENT: server_options.grpc_port is not set."
    if not flags["model_base_path"] and not flags["model_config_file"]:
        return "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"
    if flags["batching_parameters_file"] and not flags["enable_batching"]:
        return (
            "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    return ""


def _serve(flags: dict[str, Any]) -> str:
    """Serve for ever, or return why that is impossible."""
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from standins.model_server.failures import Failure
    from standins.model_server.servables import Servables, say
    from standins.model_server.services import ModelService, PredictionService

    try:
        servables = Servables(flags)
        servables.start()
    except Failure as failure:
        return f"{failure.code.name}: {failure.message}"
    except (OSError, text_format.ParseError) as error:
        say(f"Non-OK-status: {error}")  # TF_CHECK_OK: upstream aborts
        os.abort()
    server = grpc.server(ThreadPoolExecutor(flags["grpc_max_threads"]), options=_channel_arguments(flags))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(flags, servables), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(servables), server)
    addresses = [f"0.0.0.0:{flags['port']}"] if flags["port"] else []
    if flags["grpc_socket_path"]:
        addresses.append(f"unix:{flags['grpc_socket_path']}")
    for address in addresses:
        server.add_insecure_port(address)
        say(f"Running gRPC ModelServer at {address} ...")
    if flags["rest_api_port"]:
        say("This stand-in has no REST.")
    server.start()
    threading.Event().wait()
    return ""


def _channel_arguments(flags: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the arguments of --grpc_channel_arguments behind upstream's own: messages of any size."""
    options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    for pair in filter(None, flags["grpc_channel_arguments"].split(",")):
        key, _, value = pair.partition("=")
        number = value.removeprefix("-").isdigit()
        options = [option for option in options if option[0] != key] + [(key, int(value) if number else value)]
    return options


if __name__ == "__main__":
    sys.exit(main())
