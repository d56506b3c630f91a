"""A CycloneDX 1.6 bill of materials: an image's parts enter, JSON text leaves.

The same parts give the same bytes: there is no time in it, and the serial number is made from the contents.
"""

import json
import uuid
from collections.abc import Sequence

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from license_expression import get_spdx_licensing
from packageurl import PackageURL

from release.part import Part

TYPES = {
    "library": ComponentType.LIBRARY,
    "application": ComponentType.APPLICATION,
    "platform": ComponentType.PLATFORM,
}


def render_sbom(name: str, version: str, parts: Sequence[Part]) -> str:
    """Return the bill of materials of an image."""
    bom = Bom(components=[_component(part) for part in parts])
    subject = Component(name=name, version=version, type=ComponentType.CONTAINER, bom_ref=f"image:{name}@{version}")
    bom.metadata.component = subject
    bom.register_dependency(subject, bom.components)
    values = json.loads(JsonV1Dot6(bom).output_as_string())
    values["metadata"].pop("timestamp", None)
    values.pop("serialNumber", None)
    contents = json.dumps(values, sort_keys=True)
    values["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, contents).urn
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _component(part: Part) -> Component:
    references = []
    if part.accepted_sha256:
        references.append(
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"https://pypi.org/project/{part.name}/{part.version.partition('+')[0]}/"),
                comment="installed from an archive with one of these digests",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in part.accepted_sha256],
            )
        )
    return Component(
        name=part.name,
        version=part.version or None,
        type=TYPES[part.kind],
        bom_ref=f"{part.purl}|{part.where}",
        purl=PackageURL.from_string(part.purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)] if part.sha256 else [],
        licenses=[_licence(part.licence)],
        external_references=references,
        properties=[Property(name="garrison:path", value=part.where)],
    )


def _licence(text: str) -> LicenseExpression | DisjunctiveLicense:
    """Return an expression where it is one of SPDX identifiers; else what is said, by name."""
    spdx = get_spdx_licensing()
    unknown = [key for key in _keys(text) if key not in spdx.known_symbols and not key.startswith("LicenseRef-")]
    return DisjunctiveLicense(name=text) if unknown else LicenseExpression(text)


def _keys(text: str) -> list[str]:
    return [word for word in text.replace("(", " ").replace(")", " ").split() if word not in ("AND", "OR", "WITH")]
