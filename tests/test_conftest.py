import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = {
    "test_passes.py": "import pytest\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): assert 0\n",
    "test_cpu.py": "import pytest\n@pytest.mark.skipif(True, reason='this CPU lacks AVX-512')\ndef test_a(): pass\n",
    "test_data.py": "import pytest\ndef test_a(): pytest.skip('LUTIER_DATA is not set; x lies there')\n",
    "test_skips.py": "import pytest\ndef test_a(): pytest.skip('no data')\n",
    "test_module.py": "import pytest\npytest.importorskip('no_such_module')\n",
}


@pytest.mark.parametrize(
    ("ci", "summary"),
    [("1", "1 failed, 1 passed, 2 skipped, 1 xfailed, 1 error"), ("", "1 passed, 4 skipped, 1 xfailed")],
)
@pytest.mark.parametrize("processes", [(), ("-p", "xdist", "-n", "2")])
def test_a_skip_fails_in_continuous_integration(tmp_path, ci, summary, processes):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    for file, text in TESTS.items():
        (tmp_path / file).write_text(text)
    options = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "--rootdir", str(tmp_path)]
    env = {**os.environ, "LUTIER_CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *options, *processes]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1].startswith(f"{summary} in ")
    assert ("LUTIER_CI forbids: no data" in done.stdout) == bool(ci)
