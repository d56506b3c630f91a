"""Numbers in and out: every type at its limits and beyond them, nothing converted in silence, digits as upstream's."""

from typing import Any

from stack.guard.cases import DOCUMENTED, TENSOR_TESTS, TENSORS, Case, check, rows
from stack.guard.served import ServedRest
from standins.saved_models.catalogue import DTYPES

TYPES, WHOLE, CALCULATOR, LOOPS = (f"/v1/models/{name}:predict" for name in ("types", "whole", "calculator", "loops"))
INTEGERS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
WHOLE_BITS = {"float16": 11, "float32": 24, "float64": 53}
MOST = {"float16": "65504.0", "float32": "3.4028234663852886e38", "float64": "1.7976931348623157e308"}
BEYOND = {"float16": "65520.0", "float32": "3.5e38", "float64": "1e309"}


def row(dtype: str, values: str) -> str:
    """Return a request of one row, all of it ones but one input."""
    return f'{{"instances": [{_join("[{}]", dtype, values)}]}}'


def column(dtype: str, values: str) -> str:
    return f'{{"inputs": {_join("[[{}]]", dtype, f"[{values}]")}}}'


def _join(brackets: str, dtype: str, values: str) -> str:
    ones = {name: brackets.format("true, true, true" if name == "bool" else "1, 1, 1") for name in DTYPES}
    named = ", ".join(f'"in_{name}": {one}' for name, one in {**ones, dtype: values}.items())
    return f"{{{named}}}"


def taken(name: str, dtype: str, values: str) -> Case:
    return Case(f"{dtype}-{name}", f"{TENSORS} AddValueToTensor", TYPES, row(dtype, values))


def refused(name: str, dtype: str, value: str, reason: str, upstream: str = f"{TENSORS} AddValueToTensor") -> Case:
    """A single value among good ones."""
    return Case(f"{dtype}-{name}", upstream, TYPES, row(dtype, f"[1, {value}, 1]" if dtype != "bool" else f"[true, {value}, true]"), "", 400, reason)  # fmt: skip


def _integers() -> list[Case]:
    cases = []
    for dtype, (least, most) in INTEGERS.items():
        wraps = "wraps 300 to 44" if dtype in ("int8", "uint8", "int16") else f"{TENSORS} AddValueToTensor"
        cases += [
            taken("limits", dtype, f"[{least}, 0, {most}]"),
            refused("below", dtype, str(least - 1), "value_out_of_range", wraps),
            refused("above", dtype, str(most + 1), "value_out_of_range", wraps),
            refused("fraction", dtype, "1.5", "wrong_dtype"),
            refused("with-a-point", dtype, "1.0", "wrong_dtype"),
            refused("with-an-exponent", dtype, "1e1", "wrong_dtype"),
            refused("text", dtype, '"1"', "wrong_dtype"),
            refused("truth", dtype, "true", "wrong_dtype"),
            refused("null", dtype, "null", "wrong_dtype"),
        ]
    return cases


def _floats() -> list[Case]:
    cases = []
    for dtype, bits in WHOLE_BITS.items():
        lossy = f"{TENSOR_TESTS} SingleUnnamedTensorErrors: loss of precision"
        cases += [
            taken("whole", dtype, f"[{2**bits - 1}, {1 - 2**bits}, 0]"),
            taken("largest", dtype, f"[{MOST[dtype]}, -{MOST[dtype]}, 0]"),
            taken("smallest", dtype, "[1e-320, -1e-400, -0.0]"),
            refused("whole-number-not-exact", dtype, str(2**bits + 1), "value_out_of_range", lossy),
            refused("negative-whole-number-not-exact", dtype, str(-(2**bits) - 1), "value_out_of_range", lossy),
            refused("beyond", dtype, BEYOND[dtype], "value_out_of_range", lossy),
            refused("negative-beyond", dtype, f"-{BEYOND[dtype]}", "value_out_of_range", lossy),
            refused("infinite-exponent", dtype, "1e400", "value_out_of_range", "RapidJSON: number too big"),
            refused("text", dtype, '"1.0"', "wrong_dtype"),
            refused("truth", dtype, "true", "wrong_dtype"),
            refused("null", dtype, "null", "wrong_dtype"),
            refused("object", dtype, "{}", "wrong_dtype"),
            refused("base64", dtype, '{"b64": "AAAA"}', "wrong_dtype"),
        ]
    return cases


TAKEN_OR_NOT = [
    *_integers(),
    *_floats(),
    taken("both", "bool", "[true, false, true]"),
    refused("one", "bool", "1", "wrong_dtype"),
    refused("zero", "bool", "0", "wrong_dtype"),
    refused("text", "bool", '"true"', "wrong_dtype"),
    refused("null", "bool", "null", "wrong_dtype"),
    Case("below-the-contract", "takes any number", LOOPS, {"instances": [-1]}, "", 400, "value_out_of_range"),
    Case("at-the-contracts-least", DOCUMENTED, LOOPS, {"instances": [0]}, '{"predictions": [{"fibonacci": 0, "kind": false}]}'),
    Case("at-the-contracts-most", DOCUMENTED, LOOPS, {"instances": [40]}, '{"predictions": [{"fibonacci": 102334155, "kind": false}]}'),
    Case("above-the-contract", "takes any number", LOOPS, {"instances": [41]}, "", 400, "value_out_of_range"),
]  # fmt: skip
# One more than what was sent, in the same type: the model's way.
ANSWERS = {
    "int8": ("[-128, 0, 126]", "[-127, 1, 127]"),
    "int16": ("[-32768, 0, 32766]", "[-32767, 1, 32767]"),
    "int32": ("[-2147483648, 0, 2147483646]", "[-2147483647, 1, 2147483647]"),
    "int64": ("[-4503599627370496, 0, 4503599627370496]", "[-4503599627370495, 1, 4503599627370497]"),
    "uint8": ("[0, 1, 254]", "[1, 2, 255]"),
    "uint16": ("[0, 1, 65534]", "[1, 2, 65535]"),
    "uint32": ("[0, 1, 4294967294]", "[1, 2, 4294967295]"),
    "uint64": ("[0, 1, 4503599627370496]", "[1, 2, 4503599627370497]"),
    "float16": ("[0.5, 2, -3]", "[1.5, 3.0, -2.0]"),
    "float32": ("[0.1, 999998, -1e1]", "[1.1, 999999.0, -9.0]"),
    "float64": ("[0.1, 8999999, 0]", "[1.1, 9e+06, 1.0]"),
    "bool": ("[true, false, true]", "[false, true, false]"),
}
FLOATS = {  # what the number is, as 32 bits, and its text
    "tenth": ("0.1", "0.1"),
    "third": ("0.3333333333333333", "0.333333343"),
    "whole": ("3", "3.0"),
    "nought": ("0", "0.0"),
    "below-nought": ("-0.0", "-0.0"),
    "six-digits": ("999999", "999999.0"),
    "seven-digits": ("9000000", "9e+06"),
    "seven-digits-and-all-count": ("1234567", "1234567.0"),
    "eight-digits": ("16777215", "16777215.0"),
    "a-half": ("555557.5", "555557.5"),
    "small": ("0.0003", "0.0003"),
    "smaller": ("0.00003", "3e-05"),
    "smallest-normal": ("1.1754943508222875e-38", "1.17549435e-38"),
    "large": ("1e10", "1e+10"),
    "larger": ("1.2345678e18", "1.2345678e+18"),
    "negative": ("-123456.7", "-123456.703"),
}
DOUBLES = {
    "tenth": ("0.1", "0.1"),
    "third": ("0.3333333333333333", "0.33333333333333331"),
    "whole": ("100000", "100000.0"),
    "seven-digits": ("1000000", "1e+06"),
    "largest-exact": ("9007199254740991", "9007199254740991.0"),
    "large": ("1e300", "1e+300"),
    "smallest-normal": ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    "many-digits": ("3.141592653589793", "3.1415926535897931"),
}
DIGITS = f"{TENSOR_TESTS} FromJsonSingleFloatTensorSixDigitPrecision"
WRITTEN = [
    *(
        Case(f"float-{name}", f"{DIGITS}; {TENSORS} WriteDecimal", WHOLE, f'{{"inputs": {{"matrix": [[{number}]], "scale": 1}}}}')
        for name, (number, _) in FLOATS.items()
    ),
    *(
        Case(
            f"double-{name}", f"{TENSORS} WriteDecimal", CALCULATOR,
            f'{{"signature_name": "multiply", "instances": [{{"a": {number}, "b": 1}}]}}', f'{{"predictions": [{text}]}}',
        )
        for name, (number, text) in DOUBLES.items()
    ),
    Case("not-finite", "writes Infinity", CALCULATOR, {"signature_name": "multiply", "instances": [{"a": 1e200, "b": 1e200}]}, "", 500, "model_failed"),
    Case("not-a-number", "writes NaN", CALCULATOR, {"signature_name": "subtract", "instances": [{"a": 1e308, "b": -1e308}]}, "", 500, "model_failed"),
]  # fmt: skip


def read_scaled(answer: Any) -> str:
    (numbers,) = answer["outputs"]["scaled"]
    (text,) = numbers
    return str(text)


@rows(TAKEN_OR_NOT)
def test_what_a_type_takes(case: Case, rest: ServedRest) -> None:
    check(case, rest)


@rows(Case(f"{dtype}-{form}", f"{TENSORS} AddSingleValueAndAdvance", TYPES, write(dtype, given), dtype)
      for dtype, (given, _) in ANSWERS.items() for form, write in {"row": row, "column": column}.items())  # fmt: skip
def test_what_comes_back_is_of_the_same_type(case: Case, rest: ServedRest) -> None:
    reply = rest.ask("POST", TYPES, case.bytes).read()
    found = reply["predictions"][0] if "predictions" in reply else {k: v[0] for k, v in reply["outputs"].items()}
    listed = str([str(one).removeprefix("#").lower() for one in found[f"out_{case.answer}"]]).replace("'", "")
    assert listed == ANSWERS[case.answer][1]


@rows(WRITTEN)
def test_the_digits_of_a_number(case: Case, rest: ServedRest) -> None:
    reply = check(case, rest)
    if case.id.startswith("float-"):
        assert read_scaled(reply.read()) == "#" + FLOATS[case.id.removeprefix("float-")][1]


def test_rounded_as_the_contract_says(rest: ServedRest) -> None:
    (scores,) = rest.ask("POST", "/v1/models/perceptron:predict", b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}').read()[
        "predictions"
    ]
    assert all(len(text.removeprefix("#0.")) <= 4 for text in scores)
