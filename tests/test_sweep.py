"""Records: read back only by the run that made them, complete after any kill, never doubled."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future
from concurrent.futures import wait as concurrent_wait
from contextlib import nullcontext
from pathlib import Path

import joblib
import pytest
import torch

from nls.lab import records as records_module
from nls.lab import sweep, tables, verify
from nls.lab.problems import MLPRecipe
from nls.lab.records import Log, index, read
from nls.lab.runs import grouped
from nls.lab.tables import table_runs

RUNS = table_runs("two_dimensions", "smoke", range(2))
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and signals")


class Inline(Executor):
    """Runs what is submitted at once, in this process; counts it."""

    def __init__(self):
        self.submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def run(folder, runs=RUNS):
    executor = Inline()
    frame = sweep.sweep(runs, folder, executor=executor, device="cpu", progress=False)
    return frame, executor.submitted


def comparable(path):
    with warnings.catch_warnings(action="ignore"):
        return {k: {**r, "seconds": 0} for k, r in index(read(path)).items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    run(folder)
    return folder / "two_dimensions.jsonl"


def test_a_record_holds_the_declared_keys(reference):
    required = (
        "table regime dataset noise noise_rate method rate variant start seed config data best_test crossfit last"
    )
    required += " noisy_val nll ece confidence diverged versions device seconds"
    for record in read(reference):
        assert set(required.split()) <= record.keys()
        assert 0 <= record["best_test"] <= 1
        assert record["best_test"] >= record["last"]


def test_what_is_recorded_is_not_trained_again(tmp_path):
    first, groups = run(tmp_path)
    again, none = run(tmp_path)
    assert (groups, none) == (2, 0)
    assert first.equals(again)
    assert list(again["seed"]) == [r.seed for r in RUNS]
    assert len(read(tmp_path / "two_dimensions.jsonl")) == len(RUNS)


def test_a_missing_record_is_trained_to_the_same_bits(tmp_path, reference):
    path = tmp_path / "two_dimensions.jsonl"
    lines = reference.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:9] + lines[10:]))
    _, groups = run(tmp_path)
    assert groups == 1
    assert comparable(path) == comparable(reference)


@pytest.mark.parametrize("key", ["config", "data"])
def test_a_record_of_another_recipe_or_other_data_is_not_used(tmp_path, reference, key):
    path = tmp_path / "two_dimensions.jsonl"
    records = read(reference)
    records[3] = {**records[3], key: "0123456789ab", "last": 0.123}
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    frame, groups = run(tmp_path)
    assert groups == 1
    assert 0.123 not in set(frame["last"])
    assert len(read(path)) == len(RUNS) + 1  # the stranger stays in the file


def test_a_torn_last_line_is_noticed_and_mended(tmp_path, reference):
    path = tmp_path / "two_dimensions.jsonl"
    path.write_bytes(reference.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="last line is torn"):
        assert len(read(path)) == len(RUNS) - 1
    with pytest.warns(UserWarning, match="last line is torn"):
        run(tmp_path)
    assert comparable(path) == comparable(reference)
    assert path.read_bytes().endswith(b"}\n")


def test_a_line_without_its_end_is_done_again_and_blank_lines_do_no_harm(tmp_path, reference):
    path, whole = tmp_path / "two_dimensions.jsonl", reference.read_bytes()
    path.write_bytes(b"\n" + whole[:-1])
    with pytest.warns(UserWarning, match="the last line is torn and is left out; the run is done again"):
        log = Log(path)
        log.append(read(reference))
    assert path.read_bytes() == b"\n" + whole


@pytest.mark.parametrize("line", ["garbage", "12", '{"config": "a"}'])
def test_a_line_that_is_no_record_is_named(tmp_path, reference, line):
    path = tmp_path / "two_dimensions.jsonl"
    lines = reference.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], line + "\n", *lines[4:]]))
    with pytest.raises(ValueError, match=r"two_dimensions\.jsonl, line 5: got b'.*', expected a record"):
        read(path)


def test_values_that_are_no_numbers_become_null():
    found = sweep.rounded({"nll": float("nan"), "ece": float("inf"), "last": 0.12345678, "diverged": True, "n": 3})
    assert found == {"nll": None, "ece": None, "last": 0.123457, "diverged": True, "n": 3}


# ---------------------------------------------------------------- faults


def in_a_child(work):
    """Fork, run `work`, return the wait status. The child never returns into the test."""
    pid = os.fork()
    if pid == 0:
        try:
            warnings.simplefilter("ignore")
            work()
            os._exit(0)
        except OSError as error:
            Path(os.environ["NLS_TEST_ERROR"]).write_text(str(error))
            os._exit(3)
        except BaseException:
            os._exit(4)
    return os.waitpid(pid, 0)[1]


@posix
def test_sigkill_at_random_moments_loses_nothing(tmp_path, reference):
    """Twenty children are killed after a random number of bytes of records, some in the middle of a line."""
    total = len(reference.read_bytes())
    for kill in range(20):
        budget = random.Random(kill).randrange(total)
        folder = tmp_path / str(kill)
        path = folder / "two_dimensions.jsonl"

        def killed(budget=budget, folder=folder):
            left, real = [budget], os.write

            def write(fd, data):
                written = real(fd, data[: left[0]])
                left[0] -= written
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return written

            records_module.os.write = write
            run(folder)

        status = in_a_child(killed)
        assert os.WIFSIGNALED(status)
        kept = comparable(path)
        complete = path.read_bytes()[:budget].count(b"\n")
        assert len(kept) == complete
        with warnings.catch_warnings(action="ignore"):
            run(folder)
        after = comparable(path)
        assert after == comparable(reference)
        assert len(path.read_bytes().splitlines()) == len(RUNS)


@posix
def test_two_processes_on_one_file(tmp_path, reference):
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                run(tmp_path)
                os._exit(0)
            except BaseException:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    path = tmp_path / "two_dimensions.jsonl"
    assert comparable(path) == comparable(reference)
    assert len(read(path)) == len(RUNS)


@posix
def test_a_full_disk_ends_in_one_line_and_leaves_whole_records(tmp_path, reference, monkeypatch):
    """The system refuses to let the file grow past a limit that lies inside the second group's records."""
    monkeypatch.setenv("NLS_TEST_ERROR", str(tmp_path / "error"))
    lines = reference.read_bytes().splitlines(keepends=True)
    limit = sum(map(len, lines[:20]))

    import resource  # not on Windows

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        run(tmp_path / "results")

    assert os.waitstatus_to_exitcode(in_a_child(limited)) == 3
    path = tmp_path / "results" / "two_dimensions.jsonl"
    message = (tmp_path / "error").read_text()
    assert "16 records could not be written (File too large)" in message
    assert "\n" not in message
    assert len(read(path)) == 16
    run(tmp_path / "results")
    assert comparable(path) == comparable(reference)


@posix
def test_a_read_only_folder_is_refused_before_training(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("NLS_TEST_ERROR", f"{folder}/error")
        os.chmod(folder, 0o777)
        results = Path(folder) / "results"
        results.mkdir(mode=0o555)

        def as_nobody():
            if os.geteuid() == 0:
                os.setuid(65534)
            monkeypatch.setattr(sweep, "train_group", lambda *_: os._exit(5))
            run(results)

        assert os.waitstatus_to_exitcode(in_a_child(as_nobody)) == 3
        message = (Path(folder) / "error").read_text()
        assert "cannot be written (Permission denied); nothing was trained" in message


# ---------------------------------------------------------------- executors and verification


@pytest.mark.slow
def test_verify_finds_a_record_that_was_not_trained(tmp_path, reference):
    path = tmp_path / "two_dimensions.jsonl"
    records = read(reference)[:16]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert verify.verify("two_dimensions", tmp_path, 16, device="cpu")["ok"].all()
    records[5]["best_test"] += 0.001
    records[6]["diverged"] = True
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    rows = verify.verify("two_dimensions", tmp_path, 16, device="cpu").set_index("config")
    assert not rows.loc[[records[5]["config"], records[6]["config"]], "ok"].any()
    assert rows["ok"].sum() == 14


def test_verify_tolerates_other_hardware_within_limits(reference):
    record = read(reference)[0]
    other = {**record, "device": "another", "last": record["last"] + 0.04, "best_test": record["best_test"] - 0.01}
    assert verify.compare(record, other)["ok"]
    assert not verify.compare(record, {**other, "last": record["last"] + 0.06})["ok"]
    assert not verify.compare(record, {**other, "device": record["device"]})["ok"]


def test_verify_compares_every_measured_value(reference):
    record = read(reference)[0]
    for name in ("nll", "ece", "crossfit", "heldout"):
        assert not verify.compare(record, {**record, name: record[name] + 0.001})["ok"], name
        assert not verify.compare(record, {**record, name: None})["ok"], name
    assert not verify.compare({**record, "fresh_last": 0.9}, {**record, "fresh_last": 0.1})["ok"]
    assert not verify.compare(record, {**record, "diverged": True, "device": "another"})["ok"]
    assert verify.compare({**record, "nll": None}, {**record, "nll": None})["ok"]


def test_verify_on_a_cpu_draws_no_record_of_a_gpu(tmp_path, reference):
    """The seconds that it took there do not say how long it takes here."""
    made = [r | {"device": "NVIDIA H100 80GB HBM3"} for r in read(reference)[:4]]
    (tmp_path / "two_dimensions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
    with pytest.raises(ValueError, match=r"none of its 4 records .* on a CPU"):
        verify.verify("two_dimensions", tmp_path, 4, device="cpu")


def test_verify_without_records(tmp_path):
    with pytest.raises(ValueError, match="none of its 0 records can be verified"):
        verify.verify("table1", tmp_path, 3)


@posix
@pytest.mark.parametrize(("name", "ends"), [("SIGKILL", -9), ("SIGTERM", 130), ("SIGTERM, SIGINT ignored", 130)])
def test_workers_end_with_their_parent(tmp_path, name, ends):
    """A sweep that ends leaves nobody training: its output closes when the last worker that inherited it is gone."""
    script = (
        "import os, signal, sys\n"
        "from nls.lab import sweep\n"
        "from nls.repro import cli\n"
        "import time\n"
        "@cli.app.command()\n"
        "def hang():\n"
        "    with sweep.processes(['cpu', 'cpu']) as pool:\n"
        "        pool.submit(os.getpid).result()\n"
        "        pool.submit(time.sleep, 3600)\n"
        "        print('training', flush=True)\n"
        f"        os.kill(os.getpid(), signal.{name.split(',')[0]})\n"
        "        time.sleep(3600)\n"
        "if __name__ == '__main__':\n"
        "    cli.main()\n"
    )
    (tmp_path / "ended.py").write_text(script)
    command = [sys.executable, tmp_path / "ended.py", "hang"]
    hears = signal.SIG_IGN if "ignored" in name else signal.SIG_DFL  # a shell's background jobs ignore Ctrl-C
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    child = subprocess.Popen(command, **out, preexec_fn=lambda: signal.signal(signal.SIGINT, hears))
    said = child.communicate(timeout=120)[0]
    assert said.startswith("training\n" + "nls: interrupted; what was recorded is kept" * (ends == 130))
    assert child.returncode == ends


def test_what_is_recorded_needs_no_device(tmp_path, reference):
    shutil.copy(reference, tmp_path)
    assert len(sweep.sweep(RUNS, tmp_path, device="cuda:99", progress=False)) == len(RUNS)
    with pytest.raises(ValueError, match="device: got 'cuda:99'"):
        sweep.sweep(RUNS, tmp_path / "empty", device="cuda:99", progress=False)


def test_verify_takes_no_image_run_on_a_gpu_for_exact(reference):
    record = read(reference)[0] | {"lr": 0.1, "device": "Tesla T4"}
    row = verify.compare(record, record | {"best_test": record["best_test"] + 0.0004})
    assert row["ok"] and not row["exact"]


def test_records_are_found_without_the_data(tmp_path, reference, monkeypatch):
    shutil.copy(reference, tmp_path)
    monkeypatch.setattr(records_module.data, "load", lambda *_: pytest.fail("read the data"))
    found = records_module.stored([RUNS[2], RUNS[0]], tmp_path)
    assert found["config"].tolist() == [RUNS[2].config, RUNS[0].config]
    assert len(records_module.stored([RUNS[0]], tmp_path / "elsewhere")) == 0


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be"),
            "CUDA error: .*",
        ),
    ],
)
def test_a_device_that_fails_is_one_line_and_keeps_the_records(tmp_path, reference, monkeypatch, error, why):
    shutil.copy(reference, tmp_path)
    before = (tmp_path / "two_dimensions.jsonl").read_bytes()
    (tmp_path / "two_dimensions.jsonl").write_bytes(before[: before.index(b"\n") + 1])

    def greedy(*_):
        raise error

    monkeypatch.setattr(MLPRecipe, "train", greedy)
    with pytest.raises(
        OSError, match=rf"^cpu: {why} while training two_dimensions, plane symmetric 0.05, seed [01]; what is recor.*$"
    ):
        run(tmp_path)
    assert (tmp_path / "two_dimensions.jsonl").read_bytes() == before[: before.index(b"\n") + 1]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data", "plane: a worker's data have the checksum other, expected 117ca27"),
        ("config", "two_dimensions: a worker has another version of this package"),
    ],
)
def test_records_of_other_data_or_other_code_are_refused(tmp_path, monkeypatch, key, message):
    real = sweep.train_group
    monkeypatch.setattr(sweep, "train_group", lambda *args: [{**r, key: "other"} for r in real(*args)])
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
    assert not read(tmp_path / "two_dimensions.jsonl")


def test_a_lost_worker_ends_in_one_line(tmp_path, monkeypatch):
    def lose(*_):
        raise BrokenExecutor("gone")

    monkeypatch.setattr(sweep, "train_group", lose)
    with pytest.raises(OSError, match=r"two_dimensions: a worker was lost, out of memory perhaps \(gone\); what is"):
        run(tmp_path)


def test_warm_ups_come_first_and_a_column_ends_before_the_next_is_begun(tmp_path, monkeypatch):
    """Two workers that finish in the order in which they were given work: the first column's runs all come before any
    of the second's, but for its warm-up, which the second worker begins while the first column's is trained."""
    one = tables.table2_slice("smoke", "digits", 0)
    two = [dataclasses.replace(run, noise_rate=0.2) for run in one]
    begun, done = [], []

    class Two(Executor):
        def __init__(self):
            self.waiting = []

        def submit(self, fn, /, group, device):
            begun.extend(group)
            assert all(run.warm_up is None or run.warm_up in done for run in group)
            self.waiting.append((future := Future(), group))
            return future

    pool = Two()

    def wait(futures, **_):
        future, group = pool.waiting.pop(0)
        assert len(futures) <= 2
        done.extend(group)
        future.set_result([r.identity | {"data": records_module.checksum(r.dataset)} for r in group])
        return concurrent_wait(futures, return_when=FIRST_COMPLETED)

    monkeypatch.setattr(sweep, "wait", wait)
    monkeypatch.setattr(sweep, "places_of", lambda _: ["cpu", "cpu"])
    monkeypatch.setattr(sweep, "processes", lambda _: nullcontext(pool))
    frame = sweep.sweep([*reversed(one), *two], tmp_path, device="cpu", progress=False)
    assert len(frame) == len(one) + len(two)
    order = [run.noise_rate for run in begun if run.start != "scratch"]
    assert order == [0.6] * (len(one) - 1) + [0.2] * sum(r.start != "scratch" for r in two)


@pytest.mark.parametrize("elsewhere", [{}, {"device": "another"}, {"versions": "torch 1"}])
def test_runs_from_a_warm_up_that_was_trained_elsewhere_are_not_mixed_in_silence(tmp_path, monkeypatch, elsewhere):
    warm_up, run = tables.table2_slice("smoke", "digits", 0)[:2]
    here = {"versions": sweep.versions(), "device": sweep.device_name(torch.device("cpu"))}
    made = [r.identity | {"data": records_module.checksum("digits")} | here for r in (warm_up, run)]
    monkeypatch.setattr(sweep, "processes", lambda _: nullcontext(Inline()))
    monkeypatch.setattr(sweep, "train_group", lambda group, device: made[1:])
    Log(tmp_path / "table2.jsonl").append([made[0] | elsewhere])
    with warnings.catch_warnings(record=True, action="always") as caught:
        sweep.sweep([run], tmp_path, device="cpu", progress=False)
    said = [str(w.message) for w in caught]
    assert len(said) == bool(elsewhere)
    assert all("digits symmetric 0.6, seed 0" in text and "not be paired" in text for text in said)


def test_what_has_ended_is_kept_though_another_table_fails(tmp_path, monkeypatch):
    def train(group, device):
        if group[0].table == "connections":
            raise ValueError("no such encoder")
        return real(group, device)

    real = sweep.train_group
    monkeypatch.setattr(sweep, "train_group", train)
    with pytest.raises(ValueError, match="no such encoder"):
        run(tmp_path, [*table_runs("connections", "smoke", [0]), *RUNS])
    assert len(read(tmp_path / "two_dimensions.jsonl")) == len(RUNS)


def test_equal_runs_of_two_lists_are_one_group_and_tables_do_not_mix(tmp_path):
    twice = [*table_runs("two_dimensions", "smoke", range(2)), *RUNS]
    frame, groups = run(tmp_path, twice)
    assert groups == 2 and len(frame) == len(twice)
    splice = [r for r in table_runs("table1", "paper", [0]) if r.dataset == "splice"]
    mixed = grouped([*splice, *table_runs("connections", "paper", [0])])
    assert all(len({r.table for r in run.group}) == 1 for run in mixed)


def test_what_another_process_adds_is_seen_at_the_next_append(tmp_path, reference):
    records, path = read(reference), tmp_path / "two_dimensions.jsonl"
    mine, other = Log(path), Log(path)
    mine.append(records[:3])
    other.append(records[2:5])
    mine.append(records[4:6])
    assert [r["config"] for r in read(path)] == [r["config"] for r in records[:6]]
    assert list(mine.records.values()) == records[:6]
    path.write_text("".join(json.dumps(r) + "\n" for r in records[10:16]))  # written anew
    mine.append(records[5:8])
    assert read(path) == records[10:16] + records[5:8]


# ---------------------------------------------------------------- devices and clusters


def where(_):
    return sweep.own_place


@pytest.mark.slow
def test_every_process_has_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    places = sweep.places_of("cuda")
    assert places == ["cuda:0", "cuda:1"] and sweep.places_of("cuda:1") == ["cuda:1"]
    assert sweep.places_of("cpu") == ["cpu"] * joblib.cpu_count()
    with sweep.processes(places) as pool:
        assert set(pool.map(where, range(40))) <= set(places)


def kill_once(marker):
    """In a Dask worker: training ends the process the first time that any worker gets to it."""
    real = MLPRecipe.train

    def train(self, runs, device):
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return real(self, runs, device)
        os.kill(os.getpid(), signal.SIGKILL)

    MLPRecipe.train = train


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two workers in processes of their own, each with a nanny."""
    from distributed import LocalCluster

    with LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_dask_takes_equal_calls_for_two(scheduler):
    with sweep.cluster(scheduler) as executor:
        first, second = executor.submit(os.urandom, 8), executor.submit(os.urandom, 8)
        assert first.result() != second.result()


@pytest.mark.slow
def test_a_dask_worker_killed_in_mid_task_loses_and_doubles_nothing(tmp_path, reference, scheduler):
    from distributed import Client

    marker = tmp_path / "killed"
    with Client(scheduler) as client:
        before = set(client.run(os.getpid).values())
        client.run(kill_once, str(marker))
        with sweep.cluster(scheduler) as executor:
            sweep.sweep(RUNS, tmp_path, executor=executor, device="cpu", progress=False)
        after = set(client.run(os.getpid).values())
    assert marker.exists() and len(before - after) == 1
    assert comparable(tmp_path / "two_dimensions.jsonl") == comparable(reference)
    assert len(read(tmp_path / "two_dimensions.jsonl")) == len(RUNS)


def test_a_scheduler_that_is_not_there_or_no_dask(monkeypatch):
    with pytest.raises(OSError, match="scheduler: nobody answers at 'nonsense'"), sweep.cluster("nonsense"):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="scheduler: needs Dask"), sweep.cluster("tcp://127.0.0.1:1"):
        pass
