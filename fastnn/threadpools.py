"""fastnn's threads as threadpoolctl sees them: `with threadpool_limits(1): ...` limits them like those of BLAS and OpenMP.

`import fastnn` does this by itself where threadpoolctl was imported before it (by scikit-learn, say); after it, `import fastnn.threadpools`.
threadpoolctl is no requirement of fastnn: `fastnn.set_num_threads(n)` needs none.
https://github.com/joblib/threadpoolctl
"""

from __future__ import annotations

import threadpoolctl

from . import _C


class Controller(threadpoolctl.LibController):  # type: ignore[misc]
    """Of the library that `import fastnn` opened, which exports the functions that are looked for."""

    user_api = internal_api = "fastnn"
    filename_prefixes = ("_c.",)  # in lower case: _C.cpython-311-x86_64-linux-gnu.so, as of several packages
    check_symbols = ("fastnn_get_num_threads", "fastnn_set_num_threads")

    def get_num_threads(self) -> int:
        return _C.get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        self.dynlib.fastnn_set_num_threads(num_threads)

    def get_version(self) -> str:
        from . import __version__

        return __version__


threadpoolctl.register(Controller)
