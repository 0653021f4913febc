"""Table 1, 2,200 networks: one stack per seed against the same networks one at a time.

    python benchmarks/table1.py              the whole grid batched, 44 random networks one at a time, scaled up
    python benchmarks/table1.py --sample 0   every network both ways (about an hour)

Both sides do the same: the same data, noise, initial weights and batches, 1,000 Adam steps, an evaluation on test and
held-out rows every 10 steps, in one process per core with one thread each. One at a time is the usual way: an
`nn.Sequential`, `torch.optim.Adam`, `gls_loss` on the batch. The last line says whether the results agree and whether
the ratio of wall times reaches 10.
"""

import argparse
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from nls import experiments, gls_loss, models, sweep

GOAL = 10


def alone(run: experiments.Run) -> dict:
    """Train one network the usual way; the accuracies that its record holds too, and the seconds it took."""
    problem = experiments.problem([run])
    started = time.perf_counter()
    torch.manual_seed(int(experiments.stream(run.seed, experiments.INIT).integers(2**31)))
    net = models.mlp(problem.x.shape[1], (run.recipe.width, run.recipe.width), problem.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=run.recipe.lr)
    test, heldout = [], []
    for step, rows in enumerate(problem.order, 1):
        optimizer.zero_grad()
        gls_loss(net(problem.x[rows]), problem.y[0, rows], run.rate).backward()
        optimizer.step()
        if step % run.recipe.evaluate_every == 0:
            with torch.no_grad():
                test.append((net(problem.x_test).argmax(-1) == problem.y_test).float().mean().item())
                heldout.append((net(problem.x_val).argmax(-1) == problem.y_val[0]).float().mean().item())
    return {"best_test": max(test), "last": test[-1], "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sample", type=int, default=44, help="networks to train one at a time; 0 is all")
    args = parser.parse_args()
    runs = experiments.table_runs("table1", "paper", range(args.seeds))
    chosen = random.Random(0).sample(runs, args.sample) if args.sample else runs

    workers = os.cpu_count() or 1
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool,
        tempfile.TemporaryDirectory() as tmp,
    ):
        list(pool.map(alone, runs[:: len(runs) // workers][:workers]))  # both sides find warm processes
        started = time.perf_counter()
        records = sweep.sweep(runs, tmp, executor=pool, device="cpu", progress=False)
        batched = time.perf_counter() - started
        started = time.perf_counter()
        singles = list(pool.map(alone, chosen))
        one_by_one = (time.perf_counter() - started) * len(runs) / len(chosen)

    by_config = records.set_index("config")
    gaps = [
        abs(by_config.loc[r.config, k] - s[k])
        for r, s in zip(chosen, singles, strict=True)
        for k in ("best_test", "last")
    ]
    equal = sum(g < 1e-6 for g in gaps)
    print(f"{len(runs)} networks, {workers} processes of one thread, torch {torch.__version__}")
    print(f"batched          {batched:8.1f} s")
    print(f"one at a time    {one_by_one:8.1f} s  (from {len(chosen)} of them)")
    print(f"accuracies: {equal} of {len(gaps)} equal, mean difference {sum(gaps) / len(gaps):.5f}")
    ratio = one_by_one / batched
    print(f"ratio {ratio:.1f}, goal {GOAL}: {'met' if ratio >= GOAL else 'NOT met'}")


if __name__ == "__main__":
    main()
