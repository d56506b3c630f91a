"""What Envoy's rate limit filter asks and hears: of envoy.service.ratelimit.v3, the few fields that are used here.

The descriptors are built in code and live in a pool of their own. Fields that are not named here are skipped when a
message is read, as the wire format provides; numbers and types are those of Envoy's `rls.proto` and what it imports.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
METHOD = "ShouldRateLimit"
OK, OVER_LIMIT = 1, 2
_PACKAGE = "garrison.budget"
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "number": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
}
# Message → field → number, type, and whether there may be many of it. What stands here is sorted from leaf to root.
_MESSAGES = {
    "Pair": {"key": (1, "string", False), "value": (2, "string", False)},  # an entry of a descriptor, or a header
    "Descriptor": {"entries": (1, "Pair", True)},
    "Request": {"domain": (1, "string", False), "descriptors": (2, "Descriptor", True)},
    "Value": {"string_value": (3, "string", False)},
    "Field": {"key": (1, "string", False), "value": (2, "Value", False)},  # how protobuf writes a map
    "Struct": {"fields": (1, "Field", True)},
    "Response": {
        "overall_code": (1, "number", False),
        "response_headers_to_add": (3, "Pair", True),
        "dynamic_metadata": (6, "Struct", False),
    },
}


def _build_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="garrison/budget.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, many) in fields.items():
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if many else 1
            added = message.field.add(name=field, number=number, label=label)
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _build_classes()
Request: Any = _CLASSES["Request"]
Response: Any = _CLASSES["Response"]
