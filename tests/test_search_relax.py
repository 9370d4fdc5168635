"""The contract of every relaxation, then what each one's paper says."""

import pytest
import torch

from search.relax import RELAXATIONS, gdas, gumbel, gumbel_noise, gumbel_st, reinforce, softmax, two_path

OPTIONS = (3, 1, 4, 2)
COSTS = torch.tensor([[1.0, 3.0, -2.0, 0.5]], dtype=torch.float64).expand(4, 4) * torch.arange(1, 5)[:, None]


def logits(seed: int = 0, options=OPTIONS, dtype=torch.float64) -> torch.Tensor:
    alpha = torch.full((len(options), max(options)), -torch.inf, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for row, count in enumerate(options):
        alpha[row, :count] = torch.randn(count, generator=generator, dtype=dtype)
    return alpha.requires_grad_()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step(relaxation, alpha, generator):
    """Gradient of one architecture step of a toy task."""
    gates = relaxation.sample(alpha, generator)
    task = (gates.weights * COSTS).sum()
    loss = relaxation.loss(task, 0.1 * task, gates)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(1.1 * task.item())
    (gradient,) = torch.autograd.grad(loss, alpha)
    return gates, gradient


contract = pytest.mark.parametrize("name", RELAXATIONS)


@contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_distributions_over_their_options(name, dtype):
    relaxation, alpha, generator = RELAXATIONS[name](), logits(dtype=dtype), rng()
    for _ in range(20):
        gates = relaxation.sample(alpha, generator)
        assert gates.weights.dtype == dtype
        assert (gates.weights >= 0).all()
        torch.testing.assert_close(gates.weights.sum(1), torch.ones(4, dtype=dtype))
        assert (gates.weights[~torch.isfinite(alpha)] == 0).all()
        assert gates.weights[1, 0] == 1
        if gates.run is not None:
            assert gates.run.dtype == torch.bool
            assert not gates.run[~torch.isfinite(alpha)].any()
            assert (gates.weights[~gates.run] == 0).all()


@contract
def test_gradient_is_finite_and_reaches_every_open_choice(name):
    relaxation, alpha, generator = RELAXATIONS[name](), logits(), rng()
    total = torch.zeros_like(alpha)
    for _ in range(50):
        _, gradient = step(relaxation, alpha, generator)
        assert torch.isfinite(gradient).all()
        assert (gradient[~torch.isfinite(alpha)] == 0).all()
        assert gradient[1].abs().max() < 1e-12
        total += gradient.abs()
        relaxation.after_step(alpha.detach())
    assert (total[[0, 2, 3]].sum(1) > 0).all()


@contract
def test_the_generator_decides_the_sample(name):
    alpha = logits()
    first, again = (RELAXATIONS[name]().sample(alpha, rng(3)).weights for _ in range(2))
    assert torch.equal(first, again)
    others = [RELAXATIONS[name]().sample(alpha, rng(seed)).weights for seed in range(20)]
    assert all(torch.equal(first, other) for other in others) == (name == "softmax")


@contract
def test_state_goes_through_a_checkpoint(name, tmp_path):
    relaxation, alpha = RELAXATIONS[name](), logits()
    relaxation.anneal(0.7)
    step(relaxation, alpha, rng(1))
    torch.save(relaxation.state_dict(), tmp_path / "state.pt")
    copy = RELAXATIONS[name]()
    copy.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed in (5, 6):
        (gates, gradient), (copied, copied_gradient) = (step(r, alpha, rng(seed)) for r in (relaxation, copy))
        assert torch.equal(gates.weights, copied.weights)
        assert torch.equal(gradient, copied_gradient)


def test_softmax_is_softmax():
    alpha = logits()
    torch.testing.assert_close(softmax(0.5).sample(alpha).weights, torch.softmax(2 * alpha, 1))


@pytest.mark.parametrize("relaxation", [gumbel(1.0), gumbel(1.0, hard=True), gumbel_st(), gdas(), reinforce()])
def test_samples_are_as_frequent_as_their_probabilities(relaxation):
    draws = 20_000
    alpha = torch.tensor([[0.3, -1.0, 1.2]], dtype=torch.float64)
    weights = relaxation.sample(alpha.expand(draws, 3), rng(1)).weights
    share = torch.bincount(weights.argmax(1), minlength=3) / draws
    probability = torch.softmax(alpha[0], 0)
    assert ((share - probability).abs() < 4 * (probability * (1 - probability) / draws).sqrt()).all()


def test_gumbel_noise_has_its_mean_and_variance():
    noise = gumbel_noise(torch.zeros(100_000, dtype=torch.float64), rng())
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, abs=0.05)


@pytest.mark.parametrize("make", [gumbel_st, gdas])
def test_straight_through_is_exactly_one_hot_with_the_soft_gradient(make):
    alpha, relaxation = logits(), make(tau=2.0)
    gates, gradient = step(relaxation, alpha, rng(4))
    assert set(gates.weights.unique().tolist()) == {0.0, 1.0}
    soft = torch.softmax((alpha + gumbel_noise(alpha, rng(4))) / 2.0, 1)
    (expected,) = torch.autograd.grad(1.1 * (soft * COSTS).sum(), alpha)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", ["gdas", "reinforce"])
def test_sampled_option_alone_runs(name):
    gates = RELAXATIONS[name]().sample(logits(), rng())
    assert torch.equal(gates.run, gates.weights == 1)
    assert (gates.run.sum(1) == 1).all()


def test_two_paths_run_and_the_gradient_is_the_binary_gates():
    alpha, relaxation, generator = logits(), two_path(), rng(2)
    for _ in range(10):
        gates, gradient = step(relaxation, alpha, generator)
        assert gates.run.sum(1).tolist() == [min(2, n) for n in OPTIONS]
        expected = torch.zeros_like(alpha)
        for row in range(len(OPTIONS)):
            pair = gates.run[row].nonzero().flatten().tolist()
            p = torch.softmax(alpha.detach()[row, pair], 0)
            for i, a in enumerate(pair):
                for j, b in enumerate(pair):
                    expected[row, a] += 1.1 * COSTS[row, b] * p[j] * (float(i == j) - p[i])
        torch.testing.assert_close(gradient, expected)


def test_two_path_draws_its_active_option_within_the_pair():
    draws = 20_000
    alpha = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(draws, 2)
    share = two_path().sample(alpha, rng()).weights[:, 0].mean().item()
    assert share == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.015)


def test_two_path_keeps_the_probabilities_of_the_others():
    alpha, relaxation = torch.nn.Parameter(logits(options=(4, 5, 2)).detach()), two_path()
    optimizer = torch.optim.Adam([alpha], lr=0.3)  # its momentum moves the other logits too
    generator = rng()
    for _ in range(5):
        before = torch.softmax(alpha.detach(), 1)
        gates = relaxation.sample(alpha, generator)
        optimizer.zero_grad()
        (gates.weights * torch.arange(5)).sum().backward()
        optimizer.step()
        relaxation.after_step(alpha)
        after = torch.softmax(alpha.detach(), 1)
        torch.testing.assert_close(after[~gates.run], before[~gates.run])
        assert not torch.allclose(after[gates.run], before[gates.run], atol=1e-3)


def test_two_path_weight_step_runs_one_and_leaves_the_pair_alone():
    alpha, relaxation = logits(), two_path()
    gates = relaxation.sample(alpha.detach(), rng())
    assert (gates.run.sum(1) == 1).all()
    before = alpha.detach().clone()
    relaxation.after_step(alpha)
    assert torch.equal(before, alpha.detach())


def test_reinforce_estimates_the_gradient_of_the_expectation():
    alpha = torch.tensor([[0.4, -0.3, 0.0]], dtype=torch.float64, requires_grad=True)
    values = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    (exact,) = torch.autograd.grad((torch.softmax(alpha, 1) * values).sum(), alpha)
    relaxation, generator, draws = reinforce(), rng(), 4000
    mean = torch.zeros_like(alpha)
    for _ in range(draws):
        gates = relaxation.sample(alpha, generator)
        loss = relaxation.loss((gates.weights * values).sum(), torch.zeros(()), gates)
        mean += torch.autograd.grad(loss, alpha)[0] / draws
    torch.testing.assert_close(mean, exact, rtol=0, atol=0.06)


def test_temperatures_go_from_start_to_end():
    exponential, linear = gumbel(4.0, 0.25), gdas(10.0, 0.0001)
    for progress, tau, line in ((0.0, 4.0, 10.0), (0.5, 1.0, 5.00005), (1.0, 0.25, 0.0001)):
        exponential.anneal(progress)
        linear.anneal(progress)
        assert exponential.state_dict()["tau"] == pytest.approx(tau)
        assert linear.state_dict()["tau"] == pytest.approx(line)


def test_a_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperatures are positive"):
        gumbel(1.0, 0.0)
