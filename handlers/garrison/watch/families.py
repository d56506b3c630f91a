"""Every metric by name: its kind, its labels, and what their values can be. Workers and the launcher both read this.

Values of labels are bounded: models that are served, and words out of the sets here or of the code, `other` for the
rest. What a worker writes can therefore neither name a new metric nor grow the number of series.
"""

from dataclasses import dataclass

METRICS_DIRECTORY = "metrics"  # in a worker's scratch directory
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
STEPS = ("admit", "infer", "explain", "present")
OTHER = "other"
OWN_WORDS = "in_its_own_words"  # for every reason that is not of the counting gate's own catalogue
BYTE_BUCKETS = tuple(4**power for power in range(5, 14))  # 1 KiB to 64 MiB
PIXEL_BUCKETS = tuple(4**power for power in range(4, 14))  # 16x16 to 8192x8192
SECOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Family:
    """One metric; a histogram has upper bounds."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


ANSWERS = Family("garrison_contract_answers_total", COUNTER, "Requests answered with a prediction.", ("model",))
REFUSALS = Family("garrison_contract_refusals_total", COUNTER, "Requests refused, by reason.", ("model", "reason"))
INPUT_BYTES = Family("garrison_contract_input_bytes", HISTOGRAM, "Size of request bodies.", ("model",), BYTE_BUCKETS)
INPUT_PIXELS = Family(
    "garrison_contract_input_pixels", HISTOGRAM, "Size of pictures as sent.", ("model",), PIXEL_BUCKETS
)
BATCH_ITEMS = Family(
    "garrison_contract_batch_items", HISTOGRAM, "Requests that came in one batch.", ("model",), ITEM_BUCKETS
)
STEP_SECONDS = Family(
    "garrison_contract_step_seconds", HISTOGRAM, "Time of each step, per batch.", ("model", "step"), SECOND_BUCKETS
)
CONTRACT = (ANSWERS, REFUSALS, INPUT_BYTES, INPUT_PIXELS, BATCH_ITEMS, STEP_SECONDS)

VIOLATIONS = Family(
    "garrison_cell_violations_total",
    COUNTER,
    "Forbidden system calls of workers, by name and by how far the worker was.",
    ("model", "syscall", "stage"),
)
HELD = Family(
    "garrison_cell_held", GAUGE, "Whether all that was tried failed as it must, in all workers.", ("model", "part")
)
UNSAFE = Family("garrison_cell_unsafe", GAUGE, "Whether workers start although the kernel lacks it.", ("setting",))
DROPPED = Family("garrison_cell_output_dropped_bytes_total", COUNTER, "Output beyond what is passed on.", ("model",))
ENDED = Family("garrison_cell_workers_ended_total", COUNTER, "Workers that ended, for whatever reason.", ("model",))
WORKERS = Family("garrison_cell_workers", GAUGE, "Workers now, by how far they are.", ("model", "stage"))
MEMORY = Family("garrison_cell_memory_bytes", GAUGE, "Private memory of the worker that has most.", ("model",))
THREADS = Family("garrison_cell_threads", GAUGE, "Threads of the worker that has most.", ("model",))
SCRATCH = Family("garrison_cell_scratch_bytes", GAUGE, "Scratch directory of the worker that wrote most.", ("model",))
CELL = (VIOLATIONS, HELD, UNSAFE, DROPPED, ENDED, WORKERS, MEMORY, THREADS, SCRATCH)

UNREADABLE = Family(
    "garrison_watch_unreadable_workers",
    GAUGE,
    "Workers whose counts cannot be read now; old ones stand in.",
    ("model",),
)
INPUTS = Family(
    "garrison_watch_inputs_total",
    COUNTER,
    "Inputs and answers that were measured, by the bin of each feature.",
    ("model", "feature", "bin"),
)
DRIFT = Family(
    "garrison_watch_drift_ratio",
    GAUGE,
    "Population stability index of the last inputs against the signed profile.",
    ("model", "feature"),
)
DRIFT_SAMPLES = Family("garrison_watch_drift_samples", GAUGE, "Inputs that drift is measured over.", ("model",))
PROFILE = Family("garrison_watch_profile_present", GAUGE, "Whether the model was packed with a profile.", ("model",))
WATCH = (UNREADABLE, INPUTS, DRIFT, DRIFT_SAMPLES, PROFILE)
GUARD_ANSWERS = Family(
    "garrison_guard_answers_total", COUNTER, "Requests that the guard answered.", ("model", "protocol")
)
GUARD_REFUSALS = Family(
    "garrison_guard_refusals_total", COUNTER, "Requests that the guard refused, by reason.", ("model", "reason")
)
GUARD_SECONDS = Family(
    "garrison_guard_seconds", HISTOGRAM, "Time from a request to its answer, the model's included.", ("model",),
    SECOND_BUCKETS,
)  # fmt: skip
GUARD_PROGRESS = Family("garrison_guard_in_progress", GAUGE, "Requests that a model is being asked now.", ("model",))
GUARD_AVAILABLE = Family(
    "garrison_guard_model_available", GAUGE, "Whether the server behind the guard takes requests for it.", ("model",)
)
GUARD = (GUARD_ANSWERS, GUARD_REFUSALS, GUARD_SECONDS, GUARD_PROGRESS, GUARD_AVAILABLE)

GATEWAY_RESPONSES = Family(
    "garrison_gateway_responses_total", COUNTER, "Requests to the gateway, by model and by how they ended.",
    ("model", "class"),
)  # fmt: skip
GATEWAY_CLIENT_RESPONSES = Family(
    "garrison_gateway_client_responses_total", COUNTER, "Requests to the gateway, by client and by how they ended.",
    ("client", "class"),
)  # fmt: skip
GATEWAY_REFUSALS = Family("garrison_gateway_refusals_total", COUNTER, "Requests refused, by reason.", ("reason",))
GATEWAY_ATTEMPTS = Family(
    "garrison_gateway_management_attempts_total", COUNTER, "Requests for paths that manage a server.", ()
)
GATEWAY_PROBES = Family("garrison_gateway_probes_total", COUNTER, "Requests for anything else that is not there.", ())
GATEWAY_SECONDS = Family(
    "garrison_gateway_request_seconds", HISTOGRAM, "Time of an answered request, from its first byte to its end.",
    ("model",), SECOND_BUCKETS,
)  # fmt: skip
GATEWAY_PROGRESS = Family(
    "garrison_gateway_requests_in_progress", GAUGE, "Requests that a server or guard is working on now.", ("server",)
)
GATEWAY_HEALTHY = Family(
    "garrison_gateway_server_healthy", GAUGE, "Whether a server or guard says that it takes requests.", ("server",)
)
GATEWAY_SOUND = Family(
    "garrison_gateway_configuration_sound", GAUGE, "Whether all of the last configuration is in force.", ()
)
GATEWAY_CERTIFICATE = Family(
    "garrison_gateway_certificate_expiry_timestamp_seconds", GAUGE, "When a certificate ends, in Unix time.",
    ("certificate",),
)  # fmt: skip
GATEWAY_KEY = Family(
    "garrison_gateway_key_expiry_timestamp_seconds", GAUGE, "When a client's last key ends, in Unix time.", ("client",)
)
GATEWAY_BUDGET = Family(
    "garrison_gateway_budget_used_ratio", GAUGE, "Share of a day's queries that a client has used.", ("client",)
)
GATEWAY = (
    *(GATEWAY_RESPONSES, GATEWAY_CLIENT_RESPONSES, GATEWAY_REFUSALS, GATEWAY_ATTEMPTS, GATEWAY_PROBES),
    *(GATEWAY_SECONDS, GATEWAY_PROGRESS, GATEWAY_HEALTHY, GATEWAY_SOUND),
    *(GATEWAY_CERTIFICATE, GATEWAY_KEY, GATEWAY_BUDGET),
)
RESTARTS = Family(
    "garrison_launcher_restarts_total", COUNTER, "Processes that ended and were started again.", ("part",)
)
LAUNCHER_UNSAFE = Family(
    "garrison_launcher_unsafe", GAUGE, "Whether a setting is in force that weakens safety.", ("setting",)
)
LAUNCHER = (RESTARTS, LAUNCHER_UNSAFE)

ADMITTED = Family("garrison_admission_admitted_total", COUNTER, "Versions that were admitted to the store.", ())
ADMISSION_REFUSALS = Family(
    "garrison_admission_refusals_total", COUNTER, "Models that admission refused, by reason.", ("reason",)
)
VERIFICATION_SECONDS = Family(
    "garrison_admission_verification_seconds", GAUGE, "Time to verify a model's files at the start.", ("model",)
)
AUDIT_WHOLE = Family("garrison_admission_audit_log_whole", GAUGE, "Whether the store's audit log is unbroken.", ())
ADMISSION = (ADMITTED, ADMISSION_REFUSALS, VERIFICATION_SECONDS, AUDIT_WHOLE)
LOG_CUT = Family("garrison_log_cut_total", COUNTER, "Lines of the log that were cut, by gate.", ("gate",))
FAMILIES = (*CONTRACT, *CELL, *WATCH, *GUARD, *GATEWAY, *LAUNCHER, *ADMISSION, LOG_CUT)
