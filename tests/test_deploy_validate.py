import pytest
from models import Mixture, bytes_and_input, randomise
from test_supernet_extract import SPACE

from deploy.integer import run_program
from deploy.lower import lower
from deploy.validate import EXACT_IMAGES, _timing, _unsure, check_exact
from lut.errors import LutError
from supernet import SearchSpace, Supernet, extract


class Device:
    """Stands for a built network: the reference, with `error` added to one score of one image."""

    def __init__(self, program, image=0, error=0):
        self.program, self.image, self.error, self.seen = program, image, error, 0

    def run(self, images):
        self.seen = len(images)
        scores = run_program(self.program, images)
        scores[self.image, 3] += self.error
        return scores


@pytest.fixture(scope="module")
def built():
    images, x, mean, std = bytes_and_input((3, 16, 16), 12)
    model = randomise(Mixture())
    net = Supernet.from_model(model, x, SPACE, mean, std).eval()
    plain = Supernet.from_model(model, x, SearchSpace((32,), (32,), (1.0,)), mean, std).eval()
    return lower(extract(net, net.uniform(8, 8))), lower(extract(plain, plain.arch())), images


def test_one_wrong_score_of_one_image_is_found(built):
    program, _, images = built
    device = Device(program)
    assert check_exact(program, device, images) == device.seen == EXACT_IMAGES
    for image in (5, EXACT_IMAGES - 1):  # a test image, and one of random bytes
        with pytest.raises(LutError, match=f"image {image}: the device gave"):
            check_exact(program, Device(program, image, 1), images)


def test_float_scores_may_differ_by_the_order_of_summation_only(built):
    _, program, images = built
    scale = abs(run_program(program, images)).max()
    check_exact(program, Device(program, 2, 1e-6 * scale), images)
    with pytest.raises(LutError, match="float scores differ"):
        check_exact(program, Device(program, 2, 0.01 * scale), images)


def test_a_network_is_timed_until_its_lowest_time_is_confirmed():
    def rounds(*times):
        return [{"hot": [t] * 9, "cold": [2 * t], "ops": {"conv": t / 2}} for t in times]

    assert not _unsure(rounds(1.0, 1.01, 9.0))
    assert _unsure(rounds(1.0, 1.3, 1.31))
    timing = _timing(rounds(1.3, 1.0, 1.01))
    assert (timing.hot.us, timing.cold.us, timing.ops["conv"]) == (1.01, 2.02, 0.505)
