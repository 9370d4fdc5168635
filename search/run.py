"""The steps of a run, which search.chain and search.pareto put together.

Every step leaves a file in the run folder that a later one starts from, so that an interrupted run resumes:
    config.yaml env.json float.safetensors metrics.jsonl last.pt arch.json subnet.safetensors uniform8.safetensors
    deploy/ validation.json report.html
"""

from __future__ import annotations

import copy
import glob
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from deploy.lower import lower
from deploy.mcu import require_tools
from deploy.program import Program
from lut.build import build_table
from lut.device import Device
from lut.errors import InputError
from lut.files import atomic_write
from lut.spec import how_long
from lut.table import LatencyTable
from supernet.arch import Arch
from supernet.extract import Subnet, adopt, extract
from supernet.mixed import MixedOp
from supernet.saved import load_subnet, save_subnet
from supernet.space import SearchSpace
from supernet.supernet import Supernet

from .accelerator import accelerator, describe, idle, require
from .bilevel import require_arch_steps, run_search
from .budget import Budget, BudgetError
from .choose import Candidate, choose
from .config import RunConfig, SearchConfig
from .costs import REPORTED, Costs, expected_costs, network_costs, resolve
from .coverage import require_kinds, require_rows, space_specs, within
from .deployment import Deployment, broken, tighten
from .environment import environment
from .evaluate import evaluate
from .finetune import finetune
from .outcome import score
from .progress import Metrics
from .quick import quick_scores
from .solve import solve
from .sources import Sources, load_sources, load_weights, priced_input
from .teacher import Teacher
from .train import train
from .trial import digest, make_trial

CALIBRATION_IMAGES = 256


class Run:
    """One run and its folder. Steps are methods in the order of the chain; each returns at once if its file exists."""

    def __init__(self, config: RunConfig, folder: Path, progress: bool = True):
        self.config, self.folder, self.progress = config, folder, progress
        self.device = Device.load(config.device)
        self.accelerator = accelerator(config.accelerator)
        require(self.accelerator, {part.precision for part in (config.train, config.search, config.finetune)})
        self.seed()  # a model of the person's own is initialised as it is built
        self.sources: Sources = load_sources(config)
        self.metrics = Metrics(folder / "metrics.jsonl")
        self.table: LatencyTable | None = None
        self.teacher: Teacher | None = None

    def seed(self) -> None:
        """The global generator as at the start of every phase, whether the run was interrupted before it or not."""
        torch.manual_seed(self.config.search.seed)

    def start(self, command: list[str]) -> None:
        """Create the folder; one that is there must hold the same settings, and keeps the command that began it."""
        if self.config.search.method == "gradient":
            require_arch_steps(self.config.search, self.sources.data)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "config.yaml"
        if not path.exists():
            self.config.write(path)
        elif RunConfig.read(path) != self.config:
            raise InputError(
                f"{path}: a run with other settings; give another --out, or resume it with --run {self.folder}"
            )
        if not (self.folder / "env.json").exists():
            about = environment(command, self.config.search.seed, describe(self.accelerator))
            atomic_write(self.folder / "env.json", json.dumps(about, indent=1))
        cuts = within(self.asked_space(), self.device)[1]
        for line in (*idle(self.accelerator), *(f"cut from the space: {cut}" for cut in cuts)):
            say(line)

    def example(self) -> Tensor:
        """A batch of training inputs, in the order of the data."""
        return next(iter(self.sources.data.batches("train", CALIBRATION_IMAGES)))[0].contiguous()

    def float_model(self) -> nn.Module:
        """The float network: trained, or as its checkpoint has it."""
        path = self.folder / "float.safetensors"
        model = self.sources.model
        if path.exists():
            load_weights(model, path)
            return model.eval()
        if not self.sources.pretrained:
            self.seed()
            train(
                model.to(self.accelerator),
                self.sources.data,
                self.config.train,
                loss=self.sources.loss,
                metric=self.sources.metric,
                seed=self.config.search.seed,
                augment=self.config.data.augment,
                phase="train",
                metrics=self.metrics,
                checkpoint=self.folder / "float.pt",
            )
        for module in model.modules():
            if isinstance(module, MixedOp):
                module.inherit()
        state = {name: tensor.detach().clone().contiguous() for name, tensor in model.cpu().state_dict().items()}
        atomic_write(path, safetensors.torch.save(state))
        return model.eval()

    def space(self) -> SearchSpace:
        """The config's space, as far as the device supports it. InputError when nothing is left."""
        return within(self.asked_space(), self.device)[0]

    def asked_space(self) -> SearchSpace:
        section = self.config.space
        pins = {
            layer: {word: value for word, value in vars(pin).items() if value is not None}
            for layer, pin in section.pin.items()
        }
        return SearchSpace(
            section.weight_bits,
            section.act_bits,
            section.widths,
            section.channel_multiple,
            section.first_last_bits,
            pins,
        )

    def supernet(self, model: nn.Module, space: SearchSpace) -> Supernet:
        mean, std = (torch.tensor(values) for values in (self.sources.data.mean, self.sources.data.std))
        net = Supernet.from_model(model, self.example(), space, mean, std).to(self.accelerator)
        if (elsewhere := priced_input(self.config, self.sources.data)) is not None:
            net.price_as(Supernet.from_model(*elsewhere, space))
        return net

    def float_subnet(self, model: nn.Module) -> Subnet:
        """The float32 baseline as a network of the same operators."""
        net = self.supernet(model, SearchSpace((32,), (32,), (1.0,)))
        return extract(net, net.arch()).eval()

    def table_path(self) -> Path:
        return Path(self.config.table or f"tables/{self.device.name}.csv")

    def measure_table(self, net: Supernet, float_subnet: Subnet, force: bool = False) -> LatencyTable:
        """The device's table, with every row that the space and the baseline may need measured or interpolated."""
        require_kinds(net, self.device)
        path = self.table_path()
        if self.device.runner == "imported":
            self.table = LatencyTable.read(path)
            require_rows(net, self.table)
        else:
            specs = space_specs(net)
            if self.device.core is None:  # a microcontroller runs no float32
                specs += [spec for op in float_subnet.schedule().ops if (spec := op.spec({}))]
            how = self.config.profile
            self.table = build_table(
                self.device,
                specs,
                path,
                force=force,
                progress=self.progress,
                schedules=how.schedules,
                tune=how.tune,
            )
        return self.table

    def refuse_early(self, force: bool) -> LatencyTable:
        """The table, once it is known that some architecture fits the budgets. Costs do not depend on weights, so
        nothing is trained for a budget that can't be met, nor for a device whose tools are missing. Raises BudgetError
        and LutError."""
        if self.device.core is not None and self.device.has_kernels:
            require_tools(self.device)
        net = self.supernet(self.sources.model, self.space())
        table = self.measure_table(net, self.float_subnet(self.sources.model), force)
        costs = self.costs(net)
        solve(net.choices(), net.schedule(), np.zeros(net.alpha.shape), costs, resolve(net, costs, self.budgets()), 1)
        return table

    def budgets(self) -> list[Budget]:
        return [Budget.parse(text) for text in self.config.budgets]

    def costs(self, net: Supernet) -> Costs:
        metrics = [*(b.metric for b in self.budgets()), *REPORTED]
        if self.table is not None:
            metrics.append("latency")
        return network_costs(net, metrics, self.table, self.device)

    def search(
        self,
        net: Supernet,
        costs: Costs,
        limits: list[Budget],
        folder: Path | None = None,
        config: SearchConfig | None = None,
    ) -> np.ndarray:
        """Warm up and search; the log-probabilities (choices, options). Resumes from last.pt. Without training when
        the settings ask for sensitivity. folder, config: instead of the run's own."""
        self.seed()
        source, folder, config = self.sources, folder or self.folder, config or self.config.search
        if config.method == "sensitivity":
            metrics = Metrics(folder / "metrics.jsonl")
            return quick_scores(net, source.data, costs, limits, loss=source.loss, seed=config.seed, metrics=metrics)
        budgeted = {metric: cost for metric, cost in costs.items() if metric in {b.metric for b in limits}}
        result = run_search(
            net,
            source.data,
            expected_costs(net, budgeted),
            limits,
            config,
            loss=source.loss,
            metric=source.metric,
            augment=self.config.data.augment,
            folder=folder,
        )
        return result.scores.double().numpy()

    def tuner(self, teacher: nn.Module) -> Callable[..., Subnet]:
        """`finetune` by the config: a subnet, epochs, phase and checkpoint are left to say."""
        if self.teacher is None or self.teacher.network is not teacher:
            self.teacher = Teacher(teacher)
        return partial(
            finetune,
            loaders=self.sources.data,
            teacher=self.teacher if self.sources.classes else None,
            config=self.config.finetune,
            loss=self.sources.loss,
            metric=self.sources.metric,
            seed=self.config.search.seed,
            augment=self.config.data.augment,
            metrics=self.metrics,
        )

    def finetuned(self, net: Supernet, arch: Arch, name: str, teacher: nn.Module, epochs: int | None = None) -> Subnet:
        """An architecture cut out of `net` and fine-tuned (for the config's epochs by default), kept in
        <name>.safetensors."""
        path = self.folder / f"{name}.safetensors"
        checkpoint = path.with_name(f"{path.stem}-{digest(arch)}.pt")  # what is solved for next may be another one
        if path.exists():
            kept = load_subnet(path)
            if dict(kept.arch.choices) == net.check(arch):
                adopt(kept, net)
                return kept.to(self.accelerator)
        subnet = extract(net, arch)
        self.seed()
        self.tuner(teacher)(subnet, epochs=epochs, phase=f"finetune {name}", checkpoint=checkpoint)
        save_subnet(subnet, path)
        for left in path.parent.glob(f"{glob.escape(path.stem)}-{'[0-9a-f]' * 8}.pt"):
            left.unlink()
        return subnet

    def chosen(
        self, net: Supernet, scores: np.ndarray, costs: Costs, limits: list[Budget], teacher: nn.Module, folder: Path
    ) -> Candidate:
        """The best one inside the limits, by trials whose results are kept in `folder`."""
        untrained = self.config.search.method == "sensitivity"
        epochs = min(self.config.search.trial_epochs, self.config.finetune.epochs)
        source, seed = self.sources, self.config.search.seed
        trial = make_trial(self.tuner(teacher), source.data, epochs, source.metric, seed, folder)
        before = None if untrained else self.supernet(copy.deepcopy(teacher), self.space())
        candidates = choose(
            net, scores, costs, limits, source.data, metric=source.metric, seed=seed, trial=trial, before=before
        )
        if tried := [candidate for candidate in candidates if candidate.tried]:
            figures = ", ".join(f"{c.name} {score(c.metric, self.sources.scored)}" for c in tried)
            say(f"finalists, {self.sources.scored} on validation after a short fine-tuning: {figures}")
        return candidates[0]

    def deployed(
        self,
        net: Supernet,
        scores: np.ndarray,
        costs: Costs,
        limits: list[Budget],
        teacher: nn.Module,
        target: Deployment,
        programs: Mapping[str, Program],
    ) -> tuple[Subnet, dict[str, Any]]:
        """The found network, and what the device says of it beside `programs`. Where the measured latency breaks a
        limit, the limit is divided by measured / predicted and solved again, `config.deploy.tighten` times at most, or
        until nothing smaller is left."""
        best, tightened = self.chosen(net, scores, costs, limits, teacher, self.folder), limits
        for attempt in range(self.config.deploy.tighten + 1):
            best.arch.write(self.folder / "arch.json")
            subnet = self.finetuned(best.net, best.arch, "subnet", teacher)
            validation = target.validate({**programs, "found": lower(subnet, "found")})
            ratios = broken(validation, limits)
            if not ratios or attempt == self.config.deploy.tighten:
                break
            tightened = tighten(limits, tightened, validation, best.arch)
            over = ", ".join(f"{metric} {ratio - 1:.1%}" for metric, ratio in ratios.items())
            say(
                f"{how_long(validation['source'])} above the limit ({over}); solving again with "
                + ", ".join(b.describe() for b in tightened)
            )
            try:
                best = self.chosen(net, scores, costs, tightened, teacher, self.folder)
            except BudgetError as error:
                say(f"{error}\nthe last network is kept")
                break
        return subnet, validation

    def uniform8(self, model: nn.Module) -> tuple[Supernet, Arch]:
        """The uniform 8-bit network at full width: the baseline of every budget."""
        net = self.supernet(model, replace(self.space(), weight_bits=(8,), act_bits=(8,), widths=(1.0,), pin={}))
        return net, net.uniform(8, 8)

    def test_metric(self, network: nn.Module) -> float:
        """The metric on the test split, read once per reported network."""
        return evaluate(network, self.sources.data, "test", self.sources.metric)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
