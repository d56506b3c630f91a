"""What Envoy's rate limit filter asks and hears: of envoy.service.ratelimit.v3, the few fields that are used here.

Fields that are not named here are skipped when a message is read, as the wire format provides; numbers and types are
those of Envoy's `rls.proto` and what it imports.
"""

from typing import Any

from garrison.protobuf import compile_messages

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
METHOD = "ShouldRateLimit"
OK, OVER_LIMIT = 1, 2
_MESSAGES = compile_messages("""
package garrison.budget;

message Pair { string key = 1; string value = 2; }  // an entry of a descriptor, or a header
message Descriptor { repeated Pair entries = 1; }
message Request { string domain = 1; repeated Descriptor descriptors = 2; }
message Value { string string_value = 3; }
message Field { string key = 1; Value value = 2; }  // how protobuf writes a map
message Struct { repeated Field fields = 1; }
message Response { int32 overall_code = 1; repeated Pair response_headers_to_add = 3; Struct dynamic_metadata = 6; }
""")
Request: Any = _MESSAGES.Request
Response: Any = _MESSAGES.Response
