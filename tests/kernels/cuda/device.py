"""Whether the tests of kernels.cuda can run, and the sizes they run at."""

import pytest

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)
if missing := devices.missing_gpu():
    pytest.skip(
        f"kernels.cuda needs {missing}; `./check simulator` runs these tests without one", allow_module_level=True
    )

SIMULATED = devices.simulated()
# One, few, one less and one more than a tile: of 8 in the simulator, of 32 to 128 on a GPU
SIZES = (1, 3, 7, 8, 9, 17) if SIMULATED else (1, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000)
