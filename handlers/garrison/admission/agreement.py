"""Whether a model is what its contract says it is: a packed directory and its contract enter, findings leave.

TorchServe's handlers find that out when they load the model, by trying it. TensorFlow Serving knows no contracts,
so what a SavedModel says of its signatures is compared before it is packed or admitted.
"""

from pathlib import Path

from garrison.admission.findings import Finding
from garrison.admission.scan.saved_model import check_against_contract, read_program, read_signatures
from garrison.archive import CONTRACT_FILE, PackedModel
from garrison.contract import TFSERVING, Contract
from garrison.errors import ConfigError
from garrison.profile import PROFILE_FILE, read_watched


def check_profile(model: PackedModel) -> list[Finding]:
    """Compare the profile of a packed model, if it has one, with what is measured of the model."""
    try:
        read_watched(model)
    except ConfigError as error:
        place = f"{model.files.place}/{PROFILE_FILE}: "
        return [Finding(PROFILE_FILE, "bad_profile", problem.removeprefix(place)) for problem in error.problems]
    return []


def check_agreement(directory: Path, contract: Contract) -> list[Finding]:
    """Compare a packed model with its contract.

    Raises:
        ArtifactRefused: a SavedModel cannot be read.
    """
    if contract.server != TFSERVING:
        return []
    problems = check_against_contract(read_signatures(read_program(directory)), contract)
    return [Finding(CONTRACT_FILE, "bad_contract", problem) for problem in problems]
