"""Table 1, 2,200 networks: one stack per seed against the same networks one at a time.

    python benchmarks/table1.py              the whole grid batched, 44 random networks one at a time, scaled up
    python benchmarks/table1.py --sample 0   every network every way (about an hour)

All sides do the same: the same data, noise, initial weights and batches, 1,000 Adam steps, an evaluation on test and
held-out rows every 10 steps, every value of the record. One at a time is the usual way: an `nn.Sequential`,
`torch.optim.Adam`, `gls_loss` on the batch, in a loop in one process with PyTorch's default threads. Beside it the same
loop in one process per core with one thread each, which is also how the stacks run. The last line says whether the
ratio of wall times reaches 10; the results agree up to the order of arithmetic.

Measured (torch 2.15, two x86 cores with AVX-512): 67 s batched; one at a time 1,356 s in one process (20 ×), 607 s in
two (9 ×). Splice's first layer, 240 × 32 for each of 55 networks, is bound by its matrix product by now.
"""

import argparse
import copy
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from nls import gls_loss
from nls.lab import metrics, models, problems, sweep, tables
from nls.lab.runs import INIT, Run, stream

GOAL = 10


def alone(run: Run) -> dict:
    """Train one network the usual way and measure what its record holds; and the seconds it took."""
    problem = problems.tabular_problem([run])
    started = time.perf_counter()
    torch.manual_seed(int(stream(run.seed, INIT).integers(2**31)))
    net = models.mlp(problem.x.shape[1], run.recipe.width, problem.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=run.recipe.lr)
    correct, heldout, best, kept = [], [], {}, {}
    for step, rows in enumerate(problem.order, 1):
        optimizer.zero_grad()
        gls_loss(net(problem.x[rows]), problem.y[0, rows], run.rate).backward()
        optimizer.step()
        if step % run.recipe.evaluate_every == 0:
            with torch.no_grad():
                logits, val = net(problem.x_test), net(problem.x_val)
            correct.append(logits.argmax(-1) == problem.y_test)
            heldout.append((val.argmax(-1) == problem.y_val[0]).double().mean())
            if problem.fresh:
                for name, score in (("best_test", correct[-1].double().mean()), ("noisy_val", heldout[-1])):
                    if score > best.get(name, -1):
                        best[name], kept[name] = score, copy.deepcopy(net)
    measured = metrics.accuracies(torch.stack(correct), torch.stack(heldout))
    measured |= metrics.calibration(logits, problem.y_test)
    for name, chosen in ({**kept, "last": net} if problem.fresh else {}).items():
        with torch.no_grad():
            right = chosen(problem.fresh[0]).argmax(-1) == problem.fresh[1]
        measured[f"fresh_{name}"] = right.double().mean()
    return {k: v.item() for k, v in measured.items()} | {"seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sample", type=int, default=44, help="networks to train one at a time; 0 is all")
    args = parser.parse_args()
    runs = tables.table_runs("table1", "paper", range(args.seeds))
    chosen = random.Random(0).sample(runs, args.sample) if args.sample else runs

    workers = os.cpu_count() or 1
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool,
        tempfile.TemporaryDirectory() as tmp,
    ):
        list(pool.map(alone, runs[:: len(runs) // workers][:workers]))  # all sides find warm processes
        started = time.perf_counter()
        records = sweep.sweep(runs, tmp, executor=pool, device="cpu", progress=False)
        batched = time.perf_counter() - started
        started = time.perf_counter()
        singles = list(pool.map(alone, chosen))
        spread = (time.perf_counter() - started) * len(runs) / len(chosen)
    alone(chosen[0])
    started = time.perf_counter()
    for run in chosen:
        alone(run)
    one_by_one = (time.perf_counter() - started) * len(runs) / len(chosen)

    by_config = records.set_index("config")
    gaps = [
        abs(by_config.loc[r.config, k] - s[k])
        for r, s in zip(chosen, singles, strict=True)
        for k in ("best_test", "last")
    ]
    equal = sum(g < 1e-6 for g in gaps)
    print(f"{len(runs)} networks on {workers} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"batched, {workers} processes            {batched:8.1f} s")
    for how, seconds in ((f"{workers} processes", spread), ("one process", one_by_one)):
        print(f"one at a time, {how:15}  {seconds:8.1f} s, {seconds / batched:.1f} × (from {len(chosen)} networks)")
    print(f"accuracies: {equal} of {len(gaps)} equal, mean difference {sum(gaps) / len(gaps):.5f}")
    print(f"ratio {one_by_one / batched:.1f}, goal {GOAL}: {'met' if one_by_one >= GOAL * batched else 'NOT met'}")


if __name__ == "__main__":
    main()
