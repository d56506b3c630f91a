"""Judge SavedModels without TensorFlow: a directory enters, findings and signatures leave; nothing of it is run.

    examination   the steps, in their order
    files         what is there: nothing else, and complete; `bundle` reads the variables' index
    reading       saved_model.pb as messages, bounded in bytes, memory and depth
    graph         nodes, functions, and every edge that TensorFlow may follow; `roots` is where it begins
    reach         what is reached from each root, judged by `operators` (a list) and `forbidden` (whatever a list says)
    paths         where the paths come from at which a graph reads files
    constants     bombs, handles and hidden graphs in values
    signatures    what it says it takes and gives, also in comparison with a contract

It does not judge what a model computes, how long it takes or how much memory: that is for the contract and the cell.
"""

from garrison.admission.scan.saved_model.examination import is_saved_model, scan_saved_model
from garrison.admission.scan.saved_model.operators import Operators, load_operators, load_shipped_operators
from garrison.admission.scan.saved_model.reading import read_program
from garrison.admission.scan.saved_model.signatures import (
    ServedSignature,
    ServedTensor,
    check_against_contract,
    read_signatures,
)

__all__ = [
    "Operators",
    "ServedSignature",
    "ServedTensor",
    "check_against_contract",
    "is_saved_model",
    "load_operators",
    "load_shipped_operators",
    "read_program",
    "read_signatures",
    "scan_saved_model",
]
