"""A finished run's network as a file, and the command that writes it."""

import json
import sys

import pytest
import small_run
import torch

from lut.lock import alone
from scripts.run_deploy import main
from search.config import RunConfig
from search.run import Run
from supernet import SearchSpace, extract, save_subnet

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def finished(tmp_path):
    """What the export needs of a finished run: its settings and its network."""
    config = RunConfig.read(small_run.write(tmp_path))
    folder = tmp_path / "run"
    run = Run(config, folder, progress=False)
    run.start(["test"])
    torch.manual_seed(0)
    net = run.supernet(run.sources.model, SearchSpace((4,), (8,), (1.0,))).eval()
    save_subnet(extract(net, net.arch()), folder / "subnet.safetensors")
    return folder


def test_the_command_writes_the_model_and_what_it_is_worth(finished, capsys):
    assert main(["--run", str(finished), "--onnx"]) == 0
    words = capsys.readouterr().out
    path = finished / "deploy" / "model.onnx"
    assert f"{path}: opset 21, {path.stat().st_size:,} bytes" in words
    assert "48 test images" in words
    assert "4 operators with weights run as integer kernels" in words
    assert onnx.load(path).graph.input[0].name == "image"
    assert main(["--run", str(finished), "--onnx", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about == json.loads((finished / "deploy" / "onnx.json").read_text())
    assert about["check"]["largest"] <= 1
    assert about["check"]["top1_equal"] > 0.9
    assert not (finished / "validation.json").exists(), "nothing is measured"


def test_without_onnxruntime_the_model_is_written_unchecked(finished, capsys, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert main(["--run", str(finished), "--onnx"]) == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out
    assert json.loads((finished / "deploy" / "onnx.json").read_text())["check"] is None


def test_what_is_missing(finished, capsys, monkeypatch):
    assert main(["--run", str(finished / "nowhere"), "--onnx"]) == 2
    assert "no such file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["--run", str(finished), "--onnx"]) == 2
    assert "onnx is not installed, and ONNX needs it: pip install 'lutier[onnx]'" in capsys.readouterr().err
    assert not (finished / "deploy").exists()
    (finished / "subnet.safetensors").unlink()
    assert main(["--run", str(finished), "--onnx"]) == 2
    assert "finish the run with" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--onnx"], []])
def test_a_folder_where_another_process_works_is_left_alone(finished, capsys, given):
    with alone(finished):
        (finished / "float.safetensors").touch()
        assert main(["--run", str(finished), *given]) == 2
    assert f"{finished}: another process works there" in capsys.readouterr().err
    assert not (finished / "deploy").exists()


def test_an_operator_that_is_off_is_an_error(finished, capsys, monkeypatch):
    import search.export

    true = search.export.compare

    def off(*args, **more):
        from dataclasses import replace

        found = true(*args, **more)
        return replace(found, layers=(replace(found.layers[0], largest=3), *found.layers[1:]))

    monkeypatch.setattr(search.export, "compare", off)
    assert main(["--run", str(finished), "--onnx"]) == 2
    assert "model.onnx: input_1 is 3 codes off the reference; expected at most 1" in capsys.readouterr().err
