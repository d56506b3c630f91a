"""Judge SavedModels without TensorFlow: a directory enters, findings and signatures leave; nothing of it is run.

reading       saved_model.pb as messages, bounded in bytes, memory and depth
signatures    what it says it takes and gives, also in comparison with a contract
"""

from garrison.admission.scan.saved_model.reading import PROGRAM_FILE, read_program
from garrison.admission.scan.saved_model.signatures import (
    ServedSignature,
    ServedTensor,
    check_against_contract,
    read_signatures,
)

__all__ = [
    "PROGRAM_FILE",
    "ServedSignature",
    "ServedTensor",
    "check_against_contract",
    "read_program",
    "read_signatures",
]
