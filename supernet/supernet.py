"""The supernet: a user's model whose widths and bit-widths are decided by one matrix of logits alpha.

    net = Supernet.from_model(model, example_input, SearchSpace())
    gates = net.sample(softmax());  net(x, gates)           # relaxed
    net.fix(arch);                  net(x)                  # one architecture

Widths are masks (DMasking, Wan et al. 2020, FBNetV2), so one convolution serves all of them; bits are mixed in the
weights and activations before it, so the cost of a step does not depend on the number of options' products.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lut.errors import InputError

from .agreement import check_agreement
from .arch import Arch
from .choice import Choice, Gates, one_hot_gates
from .convert import Parts, convert, read
from .network import QuantNetwork
from .ops import schedule_of
from .reference import uniform8
from .schedule import Schedule, SearchOp
from .space import SearchSpace
from .summary import summarise


class Sampler(Protocol):
    """The part of search.relax.Relaxation that a supernet needs."""

    def sample(self, alpha: Tensor, generator: torch.Generator | None = None) -> Gates: ...


class Supernet(QuantNetwork):
    """See the module docstring; build it with `from_model`."""

    valid: Tensor

    def __init__(self, parts: Parts, space: SearchSpace):
        super().__init__(*parts)
        self.space = space
        options = [len(choice.options) for choice in self.choices()]
        valid = torch.arange(max(options)) < torch.tensor(options)[:, None]
        self.register_buffer("valid", valid, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(valid.shape))
        self._fixed: Gates | None = None
        self._schedule: Schedule | None = None
        self._reference: Schedule | None = None
        self.priced_elsewhere = False

    @classmethod
    def from_model(cls, model: nn.Module, example_input: Tensor, space: SearchSpace | None = None,
                   mean: Tensor | None = None, std: Tensor | None = None) -> Supernet:  # fmt: skip
        """Convert a plain CNN; its weights are copied and the model is left as it was.

        example_input: float (n, C, H, W), normalised as in training; also calibrates the first step sizes.
        mean, std: per channel in byte units, input = (byte - mean) / std; taken from the example's range when absent.
        Raises InputError for what can't be converted, naming the module, and where the network, with nothing quantized,
        computes something else than the model on the example.
        """
        space = space or SearchSpace()
        traced = read(model, example_input)
        net = cls(convert(traced, example_input, space, mean, std), space).to(example_input.device)
        if traced.exact:
            check_agreement(net, model, example_input)
        net.train(model.training)
        net.calibrate([example_input])
        return net

    def forward(self, x: Tensor, gates: Gates | None = None) -> Any:
        """What the model returns, in its shapes. Without gates: those of `fix`, else the softmax of alpha."""
        if gates is None:
            gates = self._fixed or Gates(torch.softmax(self.logits(), 1))
        if gates.weights.dtype != x.dtype:
            gates = Gates(gates.weights.to(x.dtype), gates.run, gates.log_prob)
        return self.run(x, gates)

    def logits(self) -> Tensor:
        """Alpha (choices, options) with -inf on the padding."""
        return self.alpha.masked_fill(~self.valid, float("-inf"))

    def sample(self, relaxation: Sampler, generator: torch.Generator | None = None) -> Gates:
        return relaxation.sample(self.logits(), generator)

    def schedule(self) -> Schedule:
        """Operators and tensors as functions of the choices; for another input after `price_as`."""
        if self._schedule is None:
            self._schedule = schedule_of(self)
        return self._schedule

    def reference(self) -> Schedule:
        """That of the uniform 8-bit network at full width, which budgets are shares of; its options need not be the
        space's. Pins stay, operators are the default ones."""
        return self._reference or uniform8(self, self.space)

    def price_as(self, other: Supernet) -> None:
        """Let `schedule` and `reference` be those of the same network for another input: trained at one resolution,
        deployed at another. Raises InputError when the two do not have the same choices."""
        mine, theirs = ({c for c in net.choices() if not c.pinned} for net in (self, other))
        if mine != theirs:
            names = ", ".join(sorted({c.name for c in mine ^ theirs})[:3])
            raise InputError(f"price: the network for that input has other choices: {names}")
        self._schedule, self._reference, self.priced_elsewhere = other.schedule(), other.reference(), True

    def ops(self) -> list[SearchOp]:
        return list(self.schedule().ops)

    def weight_parameters(self) -> list[nn.Parameter]:
        """Weights, biases, batch norms and quantizer steps: all but alpha."""
        return [parameter for parameter in self.parameters() if parameter is not self.alpha]

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.alpha]

    def arch(self) -> Arch:
        """The most probable option of every choice."""
        best = self.logits().argmax(1).tolist()
        return Arch({c.name: c.options[best[c.index]] for c in self.choices()}, self.space.hash())

    def check(self, arch: Arch | Mapping[str, int]) -> dict[str, int]:
        """The values of every choice; InputError when the architecture is not one of this network's. An Arch that says
        its space must be of this one."""
        values = dict(arch.choices) if isinstance(arch, Arch) else dict(arch)
        if isinstance(arch, Arch) and arch.space not in ("", own := self.space.hash()):
            raise InputError(f"arch.space: {arch.space} is another search space's hash, this network's is {own}; build "
                             "the supernet with the space of that search, or give `arch.choices`")  # fmt: skip
        names = {choice.name for choice in self.choices()}
        if unknown := sorted(set(values) - names):
            raise InputError(f"arch: choice '{unknown[0]}' is not one of this network's; was it searched on another?")
        for choice in self.choices():
            value = values.setdefault(choice.name, choice.options[0]) if choice.pinned else values.get(choice.name)
            if value not in choice.options:
                raise InputError(f"arch: {choice.name}: {value} is not one of {list(choice.options)}")
        return values

    def fix(self, arch: Arch | Mapping[str, int] | None) -> None:
        """Make `net(x)` run one architecture; None goes back to the softmax of alpha."""
        if arch is None:
            self._fixed = None
            return
        gates = one_hot_gates(self.choices(), self.check(arch))
        self._fixed = Gates(gates.weights.to(self.alpha.device), gates.run)

    def uniform(self, weight_bits: int, act_bits: int, width: float = 1.0) -> Arch:
        """The architecture nearest to the same bits and the same fraction of every layer's channels; pins stay, and
        operators are the default ones."""
        channels: Counter[str] = Counter()  # of all groups that a choice decides, by its name
        for group in {group for row in self.layout.values() for group in row}:
            channels[self.width[group.name].name] += group.channels

        def value(choice: Choice) -> int:
            if choice.kind == "op":
                return choice.options[0]
            wanted: float = {"weight_bits": weight_bits, "act_bits": act_bits}.get(
                choice.kind, width * channels[choice.name]
            )
            return min(choice.options, key=lambda option: abs(option - wanted))

        return Arch({choice.name: value(choice) for choice in self.choices()}, self.space.hash())

    def summary(self, device: Any = None, table: Any = None) -> str:
        """A table, one line per node: searchable widths and bits, ties, why pinned, deployable on `device` (a
        lut.Device), costed by `table` (a LatencyTable)."""
        return summarise(self, device, table)

    def _apply(self, fn: Any, recurse: bool = True) -> Supernet:
        if self._fixed is not None:
            self._fixed = Gates(fn(self._fixed.weights), self._fixed.run)
        return super()._apply(fn, recurse)
