"""What was packed, admitted and copied for the server answers exactly as the SavedModel that its author has."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.admission.admit import Policy, admit, look_inside
from garrison.admission.pack import Delivery, SavedModelOrder, pack_saved_model
from garrison.admission.settings import load_admission
from garrison.admission.sign import KeySigner, sign_directory
from garrison.admission.sign.trust import load_trust
from garrison.admission.store import Store
from garrison.installation import find_installed
from garrison.tfserving.copying import copy_version
from packing import LIMITS
from stack.running import make_test_key, trust_test_key
from standins.saved_models.catalogue import SAMPLES
from standins.saved_models.requests import ask_over, grpc_request
from standins.starting import StandIn, run_stand_in


@pytest.fixture(scope="module")
def served(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in with every sample as it comes out of admission."""
    place = tmp_path_factory.mktemp("admitted")
    (place / "trust").mkdir()
    trust_test_key(place / "trust")
    policy = Policy(load_trust(place / "trust"), load_admission(find_installed("config/admission.yaml")))
    store, models = Store(place / "store"), {}
    for sample in SAMPLES:
        source = saved_models / sample.name
        order = SavedModelOrder(source / "1", source / "contract.yaml", Delivery(place / "packed"))
        packed, _ = pack_saved_model(order, lambda path: look_inside(path, policy.settings), limits=LIMITS)
        sign_directory(packed, KeySigner(make_test_key()[0]))
        model = admit(packed, store, policy).model
        copy_version(model.directory, model.record, place / "run" / sample.name)
        models[sample.name] = place / "run" / sample.name
    with (
        tempfile.TemporaryDirectory(prefix="garrison-") as directory,
        run_stand_in(Path(directory), models) as running,
    ):
        yield running


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_benign_sample_answers_as_its_author_s(served, stand_in, sample):
    for ask in sample.asks:
        request = grpc_request(sample.name, ask)
        with served.connect() as admitted, stand_in.connect() as original:
            answers = [ask_over(one, request).SerializeToString(deterministic=True) for one in (admitted, original)]
        assert answers[0] == answers[1] != b""
