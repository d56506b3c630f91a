"""Every reason for which a model is refused, so that each can be counted from its first time on.

A test compares them with the code.
"""

UNDECIDED = "undecided"  # a step could not be completed
REASONS = frozenset({
    "access_denied", "ambiguous_saved_model", "ambiguous_zip", "archive_format", "bad_address", "bad_constant",
    "bad_contract", "bad_manifest", "bad_pickle", "bad_profile", "bad_saved_model", "bad_server_settings",
    "bad_signature",
    "bad_text", "bad_zip", "changed_while_fetching", "code_at_import", "code_too_large", "compression_bomb",
    "constant_bomb", "custom_handler", "dynamic_name", "encoded", "expired_key", "external_data",
    "forbidden_attribute", "forbidden_call", "forbidden_definition", "forbidden_global", "forbidden_import",
    "forbidden_name", "forbidden_operator", "foreign_path", "hard_link", "hidden_code", "hidden_file",
    "hidden_graph", "hidden_pickle", "ignored_paths", "incomplete_saved_model", "keras_file", "linter_failed",
    "linter_finding", "log_broken", "misplaced_operator", "missing_member", "nested_directory", "no_manifest",
    "no_record", "not_a_file", "not_admitted", "not_allowed", "not_found", "not_python", "not_scannable",
    "not_yet_valid", "parallel_type", "path_file", "path_outside_model", "polyglot", "queue_too_long",
    "repeated_name", "request_envelope", "requirements_file", "reserved_name", "revoked", "rollback", "runtime",
    "saved_model_too_large", "scanner_failed", "scanner_found", "script_hook", "setting_left_behind",
    "shadowed_module", "special_mode", "tampered", "timeout_too_long", "too_large", "too_many_bytes",
    "too_many_files", "too_many_workers", "torchrun", "uncovered_file", "undecidable_pickle", "unencrypted",
    "unexpected_code", "unexpected_file", "unknown_key", "unknown_size", "unlisted_operator", "unreadable_file",
    "unsafe_asset", "unsafe_handler", "unsafe_name", "unsigned", "unsupported_signature", "unsupported_zip",
    "untrusted", "use_venv", "vocabulary_format", "weight_format", "wrong_model", UNDECIDED,
})  # fmt: skip
