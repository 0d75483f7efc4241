"""Processes that are forked from the warm interpreter are those that a new Python would be."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import pytest
from conftest import copy_project, edit, environment, run
from nbclient import NotebookClient

from drg_lib.pipeline.provisioner import WarmKernelManager
from drg_lib.pipeline.warm import ADDRESS, WarmProcess

if sys.platform != "linux":
    pytest.skip("processes are forked on Linux only", allow_module_level=True)

SHOW = "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['GIVEN'], sys.flags.hash_randomization)"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("warm") / "project")
    edit(project / "configs/data_sources/synthetic.yaml", scale=0.01)
    return project


def forked(project, tmp_path, argv, **more):
    """Exit status, output and errors of a forked command."""
    with open(tmp_path / "out", "w+") as out, open(tmp_path / "err", "w+") as err, open(os.devnull) as none:
        files = [none.fileno(), out.fileno(), err.fileno()]
        process = WarmProcess(argv, environment(project) | more, str(project), files)
        status = process.wait(60)
        return status, (tmp_path / "out").read_text(), (tmp_path / "err").read_text()


def is_alive(pid):
    with suppress(FileNotFoundError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


def ends(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_a_forked_command_has_its_own_arguments_environment_and_folder(project, tmp_path):
    status, out, err = forked(project, tmp_path, ["-c", SHOW, "a", "b c"], GIVEN="one")
    assert (status, err) == (0, "")
    assert out.split(maxsplit=1)[0] == str(project.resolve()) and "['a', 'b c'] one 0" in out


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('not so')", 1, "not so\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(print, 'at the end', file=sys.stderr)", 0, "at the end\n"),
    ],
)
def test_it_ends_as_python_ends(project, tmp_path, code, status, error):
    found, _, printed = forked(project, tmp_path, ["-c", code])
    assert found == status and error in printed and bool(printed) == bool(error)


def test_what_one_command_does_reaches_no_other(project, tmp_path):
    forked(project, tmp_path, ["-c", "import os, pandas; os.environ['LEFT'] = '1'; pandas.left = 1"])
    code = "import os, pandas; print('LEFT' in os.environ, hasattr(pandas, 'left'))"
    assert forked(project, tmp_path, ["-c", code])[1] == "False False\n"


def test_a_changed_module_is_seen(project):
    """The interpreter holds nothing of drg_lib: a stage runs the code that stands in the folder now."""
    module = project / "drg_lib/sources/read.py"
    before = module.read_text()
    try:
        module.write_text(before + "\nraise RuntimeError('as it stands now')\n")
        done = run(project, "drg", "run", "ingestion", "data_sources=synthetic", check=False)
        assert done.returncode == 1 and "as it stands now" in done.stderr
    finally:
        module.write_text(before)
    run(project, "drg", "run", "ingestion", "data_sources=synthetic")


def test_a_stage_makes_the_same_bytes_with_and_without_it(project):
    made = []
    for address in (os.environ.get(ADDRESS) or "", ""):
        env = {ADDRESS: address}
        run(project, "drg", "run", "ingestion", "data_sources=synthetic", env=env)
        made.append([(project / "data" / name).read_bytes() for name in ("v0.parquet", "v0.json")])
    assert made[0] == made[1]


def test_a_kernel_is_forked_too(project):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print(open('/proc/self/cmdline').read())")]
    )
    client = NotebookClient(notebook, kernel_name="python3", kernel_manager_class=WarmKernelManager)
    client.execute(env=environment(project))
    assert "--serve" in notebook.cells[0].outputs[0].text  # the interpreter's own command line


def test_a_killed_client_takes_its_process_with_it(project, tmp_path):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    client = f"from drg_lib.pipeline.warm import run_warm; run_warm(['-c', {code!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", client], env=environment(project), stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.kill()
    process.wait()
    assert ends(pid)


def test_a_client_that_ends_before_it_asks_ends_nothing_else(project, tmp_path):
    for sent in (b"", b"\0\0\0\5no js"):
        with socket.socket(socket.AF_UNIX) as client:
            environment(project)
            client.connect(os.environ[ADDRESS])
            client.sendall(sent)
    assert forked(project, tmp_path, ["-c", "print(1)"])[:2] == (0, "1\n")


def test_an_interrupt_reaches_the_process_once(project):
    code = (
        "import time\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n    raise SystemExit(7)"
    )
    client = f"from drg_lib.pipeline.warm import run_warm; run_warm(['-c', {code!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", client], env=environment(project), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "interrupted\n" and process.returncode == 7


def test_it_ends_with_its_command(project):
    """The command sees the address; when it has ended, no process and no socket is left."""
    env = {name: value for name, value in environment(project).items() if name != ADDRESS}
    code = (
        "import os; from drg_lib.pipeline.warm import ADDRESS, WarmProcess;"
        "process = WarmProcess(['-c', 'import time; time.sleep(600)'], dict(os.environ));"
        "print(process.pid, os.environ[ADDRESS])"
    )
    command = [sys.executable, "-m", "drg_lib.pipeline.warm", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120)
    pid, address = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert ends(int(pid)) and not os.path.exists(address)


def test_without_an_interpreter_a_stage_runs_all_the_same(project):
    env = {ADDRESS: str(project / "no-such-socket")}
    run(project, "drg", "run", "ingestion", "data_sources=synthetic", env=env)
