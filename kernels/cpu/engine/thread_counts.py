"""On how many threads a network's jobs run, from their sizes."""

from kernels.cpu import tuning
from kernels.cpu.engine.schedule import streamed
from kernels.cpu.threads import workers
from kernels.cpu.threads.thread_choice import ThreadChoice
from kernels.engine.network import Network


class ThreadCounts:
    """How many of at most `threads` threads a network's jobs use, by their rows."""

    def __init__(self, network: Network, itemsize: int, threads: int) -> None:
        self._row = network.n_weights * itemsize // 4  # multiply-adds forward, in float32
        self._forward = (
            tuning.STREAMED_PER_THREAD if streamed(network, 1, threads, itemsize) else tuning.FORWARD_PER_THREAD
        )
        self._choices: dict[tuple[int, int], ThreadChoice] = {}  # by rows, and the threads there may be

    def for_gradients(self, rows: int, threads: int) -> int:
        """How many threads the gradients of `rows` rows are made on."""
        return max(1, min(threads, self._multiply_adds(rows) // tuning.GRADIENTS_PER_THREAD))

    def for_outputs(self, rows: int, threads: int) -> int:
        """How many threads a forward pass on `rows` rows uses."""
        threads = min(threads, rows * self._row // self._forward)
        worth = threads > 1 and workers.of_process.worth_waking(max(rows, tuning.ROWS_FROM_MEMORY) * self._row)
        return threads if worth else 1

    def for_steps(self, rows: int, threads: int) -> ThreadChoice:
        """How training steps on `rows` rows, or up to twice as many, get their threads."""
        rows = 1 << rows.bit_length() - 1  # or sizes that change all the time would never have been tried
        key = rows, threads
        if key not in self._choices:
            multiply_adds = self._multiply_adds(rows)
            most = max(1, min(threads, multiply_adds // tuning.STEPS_TRIED))
            least = most if multiply_adds >= tuning.STEPS_SURE * most else 1
            choices = [*(1 << n for n in range(most.bit_length()) if least <= 1 << n < most), most]
            self._choices[key] = ThreadChoice(choices, self._multiply_adds(1))
        return self._choices[key]

    def _multiply_adds(self, rows: int) -> int:
        """Those of a step on `rows` rows, those of float64 twice."""
        return 3 * rows * self._row
