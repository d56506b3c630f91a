"""Paths at which somebody looks for a way to manage a server: none of them leads anywhere, and each attempt is noted.

Of TorchServe, of TensorFlow Serving, of Triton (whose v2 paths KServe shares) and of Envoy.
"""

import re

PATHS = (
    # TorchServe: the management API, its metrics, the description of its APIs, and of its gRPC the management service
    "/models",
    "/workflows",
    "/api-description",
    "/metrics",
    "/org.pytorch.serve.grpc.management.ManagementAPIsService",
    # TensorFlow Serving
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/tensorflow.ProfilerService",
    "/tensorflow.ProfileAnalysis",
    "/monitoring",
    "/grpc.reflection.v1.ServerReflection",
    "/grpc.reflection.v1alpha.ServerReflection",
    "/grpc.channelz.v1.Channelz",
    # KServe's and Triton's model repository
    "/v2/repository",
    # Envoy's admin interface
    "/admin",
    "/certs",
    "/clusters",
    "/config_dump",
    "/contention",
    "/cpuprofiler",
    "/drain_listeners",
    "/heapprofiler",
    "/healthcheck",
    "/hot_restart_version",
    "/init_dump",
    "/listeners",
    "/logging",
    "/memory",
    "/quitquitquit",
    "/reopen_logs",
    "/reset_counters",
    "/runtime",
    "/runtime_modify",
    "/server_info",
    "/stats",
)
# What the access log calls an attempt: any of the paths, whatever comes behind it, and TorchServe's `OPTIONS *`, which
# describes its APIs.
PATTERN = rf"(?i)(\*|({'|'.join(map(re.escape, PATHS))})([/?;#].*)?)"
