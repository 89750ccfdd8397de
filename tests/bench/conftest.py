"""What several tests of the benchmark start from."""

import pytest

from bench.measure.cases import Gradients
from helpers.bench_cases import OBJECTIVES, small_case


@pytest.fixture(scope="module", params=OBJECTIVES)
def grads(request: pytest.FixtureRequest) -> Gradients:
    """The gradients of a small case, for few objectives and for many. Do not write into them."""
    return small_case(request.param).gradients()
