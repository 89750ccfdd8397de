"""What a stage lacks on this machine, and what to do about it, from what it has printed: one line for the log."""

import re
import signal

# What somebody prints -> what that means. "{0}" is what the pattern has found in brackets.
SIGNS = {
    r"did not work here: (.+)": "{0}",
    r"the CUDA kernels cannot be built, as \S+ asks for: (.+)": "{0}",
    r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory": (
        "the GPU has too little memory left; end what else uses it (nvidia-smi names it), or take a larger one"
    ),
    r"driver on your system is too old|driver version is insufficient|unsupported display driver": (
        "NVIDIA's driver is older than this torch needs; update it, or install a torch of an earlier CUDA"
    ),
    r"no kernel image is available": (
        "torch or the kernels were built for other GPUs; remove built/ and build/gpu, then run again"
    ),
    r"busy or unavailable": ("another process has the GPU to itself; end it, nvidia-smi names it"),
    r"unsupported GNU version|unsupported clang version": (
        "nvcc does not take this C++ compiler; name one that it takes in CXX"
    ),
    r"could not find ninja|Ninja is required": (
        "ninja is missing, so files are compiled one by one; put its wheel into wheels/"
    ),
    r"(?:^(?:E +)?ModuleNotFoundError|python[\d.]*): No module named '?(\w+)": (
        "the package {0} is missing; put its wheel into wheels/"
    ),
    r"No space left on device": "the disk is full; remove what is not needed",
}
KILLED = "somebody killed it, for want of main memory perhaps; end other programs, or take a machine with more"
_PATTERNS = {re.compile(pattern): sentence for pattern, sentence in SIGNS.items()}


def hint(line: str) -> str:
    """Returns a sentence on what is missing and what to do, where this line of a stage tells; else ""."""
    for pattern, sentence in _PATTERNS.items():
        if found := pattern.search(line):
            return sentence.format(*(words.strip().rstrip(".") for words in found.groups()))
    return ""


class Hints:
    """What the lines shown to it say of what is missing: the last of them counts."""

    sentence = ""

    def heed(self, line: str) -> None:
        self.sentence = hint(line) or self.sentence


def ended(code: int) -> str:
    """Returns how a process of that exit status has ended: it may have been killed, by itself or under a shell."""
    try:
        return f"ended by {signal.Signals(-code if code < 0 else code - 128).name}"
    except ValueError:
        return f"exit status {code}"
