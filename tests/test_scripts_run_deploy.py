"""What an interrupted re-deployment says."""

import shlex

import pytest

import search.export
import search.redeploy
from scripts.run_deploy import main, parser
from search.redeploy import require_files


@pytest.mark.parametrize("options", [[], ["--force"], ["--onnx"], ["--force", "--json"]])
def test_the_hint_is_the_command(tmp_path, monkeypatch, capsys, options):
    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(search.redeploy, "redeploy", stop)
    monkeypatch.setattr(search.export, "export_onnx", stop)
    given = ["--run", str(tmp_path / "my run"), *options]
    assert main(given) == 130
    command = capsys.readouterr().err.partition("resume with: python scripts/run_deploy.py ")[2]
    assert parser().parse_args(shlex.split(command)) == parser().parse_args(given)


def test_an_unfinished_run_is_resumed_by_what_is_said(tmp_path):
    folder = tmp_path / "my run"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"run_search\.py --run '.*my run'$"):
        require_files(folder, ("subnet.safetensors",))
