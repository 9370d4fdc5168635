"""Steps of a run: a fine-tuning that was interrupted is gone on with for its own architecture alone."""

import copy
import json

import pytest
import small_run
import torch

from search.checkpoint import Checkpoint
from search.config import RunConfig
from search.run import Run
from supernet.arch import Arch


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Settings, a folder with the float network, that network, and its supernet."""
    home = tmp_path_factory.mktemp("run")
    config = RunConfig.read(small_run.write(home), ["finetune.epochs=3", "train.epochs=1"])
    run = Run(config, home / "run")
    run.start([])
    model = run.float_model()
    return config, home / "run", model, run.supernet(copy.deepcopy(model), run.space())


def weights(subnet):
    return {name: tensor.clone() for name, tensor in subnet.state_dict().items()}


@pytest.mark.parametrize("other", [{"3.weight_bits": 2}, {"3.width": 4}])
def test_no_architecture_goes_on_from_the_checkpoint_of_another(started, monkeypatch, other):
    config, folder, model, net = started
    highest = {c.name: c.options[-1] for c in net.choices()}
    kept, broken, new = (Arch({**highest, **change}, net.space.hash()) for change in ({}, {"6.weight_bits": 4}, other))

    def tune(arch):
        return Run(config, folder).finetuned(net, arch, "subnet", model)

    expected = [weights(tune(arch)) for arch in (new, broken)]
    tune(kept)
    save = Checkpoint.save

    def last(checkpoint, state):
        save(checkpoint, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", last)
    with pytest.raises(KeyboardInterrupt):
        tune(broken)
    monkeypatch.setattr(Checkpoint, "save", save)
    half = {path: path.read_bytes() for path in folder.glob("subnet-*.pt")}
    assert len(half) == 1
    for arch, clean, begun in ((new, expected[0], [0, 1, 2]), (broken, expected[1], [1, 2])):
        for path, content in half.items():
            path.write_bytes(content)
        (folder / "metrics.jsonl").unlink()
        found = weights(tune(arch))
        assert all(torch.equal(found[name], tensor) for name, tensor in clean.items())
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        assert [row["epoch"] for row in rows] == begun
        assert not list(folder.glob("subnet*.pt"))
