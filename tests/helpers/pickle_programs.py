"""Pickles that nobody wrote: made opcode by opcode at random, or real ones that were changed."""

import pickle
import pickletools
import random
import struct

import numpy as np

from helpers.sequence_cases import mmsa, mult

NAMES = [
    *("numpy dtype", "numpy ndarray", "numpy._core.multiarray _reconstruct", "numpy.core.multiarray scalar"),
    *("numpy._core.numeric _frombuffer", "collections OrderedDict", "collections Counter", "collections defaultdict"),
    *("builtins set", "builtins frozenset", "builtins bytes", "_codecs encode", "torch Tensor", "datetime date"),
    *("copyreg _reconstructor", "builtins list", "builtins complex", "os system", "builtins eval"),
]
DTYPES = ["f4", "f8", "i8", "u8", "O8", "U3", "S5", "?", "U0", "S0", "U999999", "V8", "f16", "M8[s]"]
KINDS = {"list": "list", "dict": "dict", "set": "set", "tuple": "tuple", "str": "str", "unicode": "str"}
OPCODES = [op for op in pickletools.opcodes if op.name not in ("STOP", "PROTO")]
# what ends most programs, and so is rare
ENDING = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "REDUCE", "BUILD", "OBJ"}
ENDING |= {"INST", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "FRAME"}
# shape, dtype and content that belong together
ARRAYS = [
    (b"K\x03", "f4", b"C\x0c" + bytes(12)),
    (b"K\x02K\x03", "i8", b"C\x30" + bytes(48)),
    (b"K\x03", "O8", b"](NNNe"),
    (b"K\x00", "U3", b"C\x00"),
    (b"K\x00\x8a\x05\xff\xff\xff\xff\x7f", "f8", b"C\x00"),
    (b"\x8a\x05\xff\xff\xff\xff\x7f", "S0", b"C\x00"),
]
CALLS = [
    ("builtins set", b"](K\x01K\x02e\x85"),
    ("builtins frozenset", b"h\x02\x85"),
    ("collections OrderedDict", b")"),
    ("collections Counter", b"}(K\x05K\x06u\x85"),
    ("collections defaultdict", b"N\x85"),
    ("torch Tensor", b"h\x02\x85"),
    ("numpy dtype", b"h\x02\x89\x88\x87"),
    ("builtins bytes", b")"),
]


def program(seed: int) -> bytes:
    """A pickle of some dozen opcodes, most of which find on the stack what they need; alone, or as an entry of data."""
    rng = random.Random(seed)
    maker = _Maker(rng)
    for _ in range(rng.randrange(2, 120)):
        maker.step()
    maker.collect()
    code = bytes(maker.code)
    if rng.random() < 0.5:
        return bytes([0x80, rng.randrange(6)]) + code + b"."
    split = rng.choice(["train", "valid", "test"])
    key = rng.choice(["text", "audio", "id", "labels", "audio_lengths", "other"])
    content = mult(in_front=rng.random() < 0.5)[0]
    entry = content.pop(split)
    # one split is written by hand, with the program's result in place of an entry or beside them
    data = pickle.dumps(content, protocol=2)[:-1] + _text(split) + pickle.dumps(entry, protocol=2)[2:-1]
    return data + _text(key) + code + b"ss."


def changed(seed: int) -> bytes:
    """A pickle of data, in any protocol, of which bytes were changed, taken out, doubled or exchanged."""
    rng = random.Random(seed)
    values = [mmsa()[0], mult()[0], {"a": np.arange(4.0), "s": {1, "x"}, "o": np.array(["x", [1]], object)}]
    return changed_bytes(pickle.dumps(rng.choice(values), protocol=rng.randrange(6)), rng)


def changed_bytes(whole: bytes, rng: random.Random) -> bytes:
    """Bytes of which some were changed, taken out, doubled or exchanged, opcodes of pickles among them."""
    content = bytearray(whole)
    opcodes = [op.code.encode("latin1")[0] for op in OPCODES]
    for _ in range(rng.randrange(1, 5)):
        place, other = rng.randrange(len(content)), rng.randrange(len(content))
        size = rng.choice([1, 4, 50])
        kind = rng.randrange(5)
        if kind == 0:
            content[place] = rng.choice(opcodes)
        elif kind == 1:
            content[place] = rng.choice([0, 1, 255, rng.randrange(256)])
        elif kind == 2:
            del content[place : place + size]
        elif kind == 3:
            content[place:place] = content[other : other + size] * rng.choice([1, 1, 30])
        else:
            content[place : place + size] = content[other : other + size]
        content = content or bytearray(b"N.")
    return bytes(content)


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


class _Maker:
    """Writes opcodes, and keeps count of what they leave on the stack: the names of kinds, or "mark"."""

    def __init__(self, rng: random.Random):
        self.rng, self.code, self.stack = rng, bytearray(b"]q\x020"), []

    def step(self) -> None:
        if self.rng.random() < 0.3:
            self.rng.choice([self.double, self.array, self.call, self.many, self.keep])()
            return
        op = self.rng.choice(OPCODES)
        if op.name in ENDING and self.rng.random() < 0.95:
            return
        if self.fits(op) or self.rng.random() < 0.01:
            argument = self.argument(op.arg)
            if op.name in ("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT") and self.rng.random() < 0.95:
                argument = {"GET": b"2\n", "PUT": b"2\n"}.get(op.name, b"\x02" + bytes(3 * ("LONG" in op.name)))
            self.code += op.code.encode("latin1") + argument
            self.take(op)

    def fits(self, op) -> bool:
        before = [each.name for each in op.stack_before]
        if "mark" in before:
            if "mark" not in self.stack:
                return False
            below = self.stack[: len(self.stack) - 1 - self.stack[::-1].index("mark")]
            before = before[: before.index("mark")]
        else:
            below = self.stack
        found = below[len(below) - len(before) :]
        return len(found) == len(before) and all(
            found[i] != "mark" and KINDS.get(kind, found[i]) == found[i] for i, kind in enumerate(before)
        )

    def take(self, op) -> None:
        before = [each.name for each in op.stack_before]
        if "mark" in before and "mark" in self.stack:
            del self.stack[len(self.stack) - 1 - self.stack[::-1].index("mark") :]
            before = before[: before.index("mark")]
        del self.stack[max(0, len(self.stack) - len(before)) :]
        self.stack += [KINDS.get(each.name, each.name) for each in op.stack_after]

    def argument(self, arg) -> bytes:
        """What follows an opcode: mostly what it should, sometimes with a length that is not there."""
        if arg is None:
            return b""
        content = bytes(self.rng.choices(b"ab01\xe9", k=self.rng.choice([0, 1, 3, 8, 300])))
        text = content.decode("latin1").encode()
        number = self.rng.choice([0, 0, 1, 2, 5, 2**31 - 1, 2**62, 2**64 - 1, self.rng.getrandbits(64)])
        lengths = {"1": "<B", "4": "<I", "8": "<Q"}
        if arg.name[:-1] in ("string", "bytes", "bytearray", "unicodestring", "long"):
            content = text if arg.name.startswith("unicode") else content
            kind = lengths[arg.name[-1]]
            content = content[:255] if kind == "<B" else content
            length = len(content) if self.rng.random() < 0.95 else number % 2 ** (8 * struct.calcsize(kind))
            return struct.pack(kind, length) + content
        if arg.name in ("uint1", "uint2", "int4", "uint4", "uint8"):
            size = int(arg.name[-1])
            return (number % 256 ** (size if self.rng.random() < 0.1 else 1)).to_bytes(size, "little")
        if arg.name == "float8":
            return struct.pack(">d", self.rng.choice([0.0, 1.5, float("nan"), 1e300]))
        return {
            "decimalnl_short": str(number % 300).encode(),
            "decimalnl_long": self.rng.choice([b"7L", b"9" * 5000 + b"L", b"-1L"]),
            "floatnl": self.rng.choice([b"1.5", b"nan", b"1e999", b"9" * 3000]),
            "stringnl": b"'" + self.rng.choice([b"ab", b"\\x41"]) + b"'",
            "stringnl_noescape_pair": self.rng.choice(NAMES).replace(" ", "\n").encode(),
            "unicodestringnl": b"ab\\u00e9",
        }.get(arg.name, b"x") + b"\n"

    def push(self, code: bytes, kind: str) -> None:
        self.code += code
        self.stack.append(kind)

    def double(self) -> None:
        """What holds itself twice, again and again, by the memo."""
        start, again = self.rng.choice(
            [(b")", b"h\x01h\x01\x86"), (b"]", b"(h\x01h\x01l"), (b"\x8f", b"(h\x01h\x01\x86\x91")]
        )
        self.push(start + b"".join(b"q\x010" + again for _ in range(self.rng.choice([3, 12, 45]))), "tuple")

    def array(self) -> None:
        """An array; one in ten of parts that do not belong together."""
        shape, dtype, content = self.rng.choice(ARRAYS)
        if self.rng.random() < 0.1:
            shape, dtype = self.rng.choice([shape, b"K\x03" * 70, b"K\x07"]), self.rng.choice(DTYPES)
        new = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt" + b"R"
        the_dtype = b"cnumpy\ndtype\n" + _text(dtype) + b"\x89\x88\x87R"
        self.push(new + b"(K\x01(" + shape + b"t" + the_dtype + b"\x89" + content + b"tb", "array")

    def call(self) -> None:
        """A name that is called; one in ten with what no pickle of data gives it."""
        name, arguments = self.rng.choice(CALLS)
        if self.rng.random() < 0.1:
            name, arguments = (
                self.rng.choice(NAMES),
                self.rng.choice([arguments, _text("ab") + _text("latin1") + b"\x86"]),
            )
        self.push(b"c" + name.replace(" ", "\n").encode() + b"\n" + arguments + b"R", "any")

    def many(self) -> None:
        """The same call over and over, of a long text that is kept once."""
        call = b"c_codecs\nencode\nq\x04" + _text("a" * 3000) + _text("latin1") + b"\x86q\x03R" + b"0"
        self.push(b"](" + call + b"h\x04h\x03R" * self.rng.choice([1] * 12 + [400]) + b"e", "list")

    def keep(self) -> None:
        if self.stack and self.stack[-1] != "mark":
            self.code += b"q\x02"

    def collect(self) -> None:
        """Leaves one thing on the stack: a list of all that is there."""
        depth = self.stack.count("mark")
        self.code += b"l" * depth
        self.code = bytearray(b"(") + self.code + b"l"
