"""Pool, arena, loader, recordings and replays, by several Python threads at once; run by .ci/races under ThreadSanitizer, which ends it with code 66."""

from __future__ import annotations

import hashlib
import threading

from resident_set import DATA, net

import fastnn
from fastnn import _C, nn, optim
from fastnn.data import Loader
from fastnn.train import Trainer


def training(seed: int, replay: bool) -> str:
    """A digest of the weights of one fit, its batches from three threads."""
    fastnn.seed(seed)
    model = net()
    loader = Loader(DATA, 8, shuffle=True, seed=seed, workers=3, prefetch=4)
    Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=seed).fit(loader, 3, DATA, progress=False, replay=replay)
    return hashlib.sha256(b"".join(a.tobytes() for a in model.state_dict().values())).hexdigest()


def large() -> None:
    """Arrays of the heap, and enough blocks for every worker."""
    layer = nn.Conv2d(8, 8, 3, padding=1)
    for _ in range(3):
        layer(fastnn.tensor(DATA[0]).reshape(3, 8, 8, 8)).sum().backward()
        _C.empty((1 << 20,), "uint8")


def main() -> None:
    assert b"__tsan_func_entry" in open(_C.__file__, "rb").read(), f"{_C.__file__} has no ThreadSanitizer"
    fastnn.set_num_threads(4)
    alone = [training(seed, bool(seed % 2)) for seed in range(4)]
    together = [""] * 4

    def run(seed: int) -> None:
        together[seed] = training(seed, bool(seed % 2))
        large()

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):  # what else may be asked meanwhile
        for count in (2, 4, 3):
            fastnn.set_num_threads(count)
            _C.threads_reason(), fastnn.memory_stats(), _C.reset_peak_memory(), fastnn.empty_cache()
    for thread in threads:
        thread.join()
    assert together == alone
    print("the same bits, no race")


if __name__ == "__main__":
    main()
