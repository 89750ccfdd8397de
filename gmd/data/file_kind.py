"""What a file is, told by its first bytes: not what it is called, which a download or a renaming may have got wrong."""

import codecs
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from gmd.errors import UserError, shown
from gmd.files import open_regular

Found = TypeVar("Found")

CSD = "a computational sequence of CMU's MultimodalSDK (.csd, HDF5)"

_HEAD = 2**16  # bytes that are looked at
_GZIP = b"\x1f\x8b"

_DOWNLOAD = "it came in place of the file: download the file itself"
_MEDICAL = "convert it to NIfTI, for example with dcm2niix or SimpleITK"
_NUMBERS = "save its arrays as .npz or as a pickle"
_UNPACK = "unpack it and give what is inside"
_TABLE = "save its table as CSV in UTF-8"

# (where they stand, the bytes, what the file is then, what to do about it)
_MAGIC = (
    (0, b"version https://git-lfs", "a pointer of git-lfs", "`git lfs pull` brings the file itself"),
    (0, b"/annex/objects/", "a pointer of git-annex", "`git annex get` brings the file itself"),
    (0, b"MATLAB 7.3 MAT-file", "a Matlab file (.mat, HDF5)", _NUMBERS),
    (0, b"MATLAB 5.0 MAT-file", "a Matlab file (.mat)", _NUMBERS),
    (0, b"\x93NUMPY", "a single array of numpy (.npy)", "put it into a .npz under its name"),
    (0, b"SIMPLE  =", "a FITS image", _MEDICAL),
    (0, b"CDF\x01", "a MINC or NetCDF file", _MEDICAL),
    (0, b"CDF\x02", "a MINC or NetCDF file", _MEDICAL),
    (0, b"ObjectType = Image", "a MetaImage (.mha, .mhd)", _MEDICAL),
    (0, b"NDims = ", "a MetaImage (.mha, .mhd)", _MEDICAL),
    (0, b"NRRD000", "a NRRD image", _MEDICAL),
    (128, b"DICM", "a DICOM file", _MEDICAL),
    (0, b"%PDF-", "a PDF document", _DOWNLOAD),
    (0, b"\x89PNG\r\n", "a PNG picture", _DOWNLOAD),
    (0, b"\xff\xd8\xff", "a JPEG picture", _DOWNLOAD),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"BZh", "compressed by bzip2", "decompress it: bunzip2"),
    (0, b"\xfd7zXZ\x00", "compressed by xz", "decompress it: unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it: unzstd"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of old Office programs (.xls, .doc)", _TABLE),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
)
_NIFTI = (  # where the magic of NIfTI stands, and what it is
    *((344, magic) for magic in (b"n+1\0", b"ni1\0")),
    *((4, magic) for magic in (b"n+2\0", b"ni2\0")),
)
# a file in the archive -> what the archive is then
_OFFICE = {
    "xl/workbook.xml": "a spreadsheet (.xlsx)",
    "word/document.xml": "a document of Word (.docx)",
    "META-INF/manifest.xml": "a spreadsheet or document of OpenOffice (.ods, .odt)",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(?[dl]p\d+\r?\n|[\]}]q.|c[\w.]+\r?\n\w+\r?\n[(p)]", re.DOTALL)
_HTML = re.compile(rb"<!doctype html|<html[\s>]|<head>|<body[\s>]", re.IGNORECASE)


def kind_of(path: Path) -> str | None:
    """Returns what a file is by its first bytes, such as "a web page (HTML)"; None if they tell nothing.

    Raises OSError if it cannot be read, and UserError if it is no regular file.
    """
    known = _known(path)
    return known[0] if known else None


def other_kind(path: Path, own: Collection[str] = ()) -> str:
    """Returns "; it is a web page (HTML)" and the like, to go behind what a reader says; "" if nothing is known.

    own: the kinds, as `kind_of` calls them, that the reader does read; text without a form of its own is never named
    """
    known = _if_readable(_known, path)
    return "" if known is None or known[0] in own or known[0].startswith("text") else f"; it is {known[0]}"


def is_gzip(path: Path) -> bool:
    """Returns whether the content of a file is compressed by gzip. Raises OSError and UserError as `kind_of`."""
    return _head(path).startswith(_GZIP)


def is_nifti(content: bytes) -> bool:
    """Returns whether bytes begin with the header of a NIfTI-1 or NIfTI-2 image."""
    return any(content[place : place + len(magic)] == magic for place, magic in _NIFTI)


def unreadable(path: Path, expected: str, error: BaseException, own: Collection[str] = ()) -> str:
    """Returns the sentence for a file that its reader could not read: what it is instead, or what happened to it.

    expected: what the reader reads, such as "a pickle"; error: what it raised
    own: the kinds, as `kind_of` calls them, that the reader does read, so that they explain nothing

    To get the file anew is advised only where nothing else explains the error.
    """
    known = _if_readable(_known, path)
    if known and known[0] not in own:
        return f"{path}: cannot be read: it is {known[0]}, not {expected}; {known[1]}"
    if changed := _if_readable(changed_as_text, path):
        return f"{path}: cannot be read as {expected}: {changed}"
    advice = "; it may be cut off or damaged: copy or download it anew" if _if_readable(_head, path) else ""
    return f"{path}: cannot be read as {expected} ({type(error).__name__}: {shown(error, 200)}){advice}"


def changed_as_text(path: Path) -> str | None:
    """Returns what a program that took a file for text has done to it; None if there is no sign of it.

    A file that is text by nature may have these signs, too. Raises OSError and UserError as `kind_of`.
    """
    content = _head(path, 4 * _HEAD)
    lines = content.count(b"\n")
    if lines >= 3 and lines == content.count(b"\r\n"):
        return "its line ends were converted (Windows, git autocrlf, FTP in text mode); get the file in binary mode"
    if content.count(b"\xef\xbf\xbd") >= 3 and _is_utf8(content):  # what stands for bytes that are no text
        return "it was saved as text, and bytes that are no text were lost; get the file in binary mode"
    return None


def _if_readable(look: Callable[[Path], Found], path: Path) -> Found | None:
    """Returns what a look at a file finds; None if it cannot be read at all, of which its reader's own error tells."""
    try:
        return look(path)
    except (OSError, UserError):
        return None


def _known(path: Path) -> tuple[str, str] | None:
    """Returns what a file is, and what to do about it; None if its first bytes tell nothing."""
    head = _head(path)
    if head.startswith(b"PK"):
        return _zip(path)
    if path.suffix.lower() == ".csd" and _is_hdf5(head):
        return CSD, "give gmd convert the folder of the .csd, with that of the labels"
    return _known_head(head)


def _known_head(head: bytes) -> tuple[str, str] | None:
    """Returns what begins with these bytes, and what to do about it; None if they tell nothing."""
    if not any(head):
        what = "nothing but zeros, as a download that broke off leaves it" if head else "empty"
        return what, "copy or download it anew"
    for place, magic, what, advice in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return what, advice
    if head.startswith(_GZIP):
        return _gzip(head)
    if _is_hdf5(head):
        return (
            ("a MINC image (HDF5)", _MEDICAL)
            if b"minc-2.0" in head
            else ("an HDF5 file", "`gmd convert` reads MFN's and MMIN's")
        )
    if is_nifti(head):
        return "a NIfTI image", "give it where images are read"
    if head[8:9] == b"{" and head[9:10] in (b'"', b"}") and int.from_bytes(head[:8], "little") < 10**8:
        return "weights in safetensors", "give a checkpoint of a run, a .pt"
    if _PICKLE.match(head):
        return "a pickle", "`gmd convert` reads pickles of MOSI and MOSEI"
    return _text(head)


def _is_hdf5(head: bytes) -> bool:
    """Returns whether the signature of HDF5 is there, before which a writer may leave room for its own."""
    signature = b"\x89HDF\r\n\x1a\n"
    return any(head[place : place + len(signature)] == signature for place in (0, 512, 1024, 2048, 4096))


def _zip(path: Path) -> tuple[str, str]:
    """Tells the kinds of zip archives by what is in them."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return "a zip archive that is cut off or damaged", "copy or download it anew"
    if any(name.endswith("data.pkl") for name in names):
        return "what torch.save writes", "save its tensors as arrays, tensor.numpy()"
    if names and all(name.endswith(".npy") for name in names):
        return "a .npz of arrays", "give it where arrays are read"
    if office := next((what for part, what in _OFFICE.items() if part in names), None):
        return office, _TABLE
    return f"a zip archive ({shown(', '.join(names[:3]), 80) or 'with nothing in it'})", _UNPACK


def _gzip(head: bytes) -> tuple[str, str]:
    """Tells what is compressed, as far as the beginning can be decompressed."""
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, 4096)
    except zlib.error:
        inside = b""
    found = _known_head(inside) if any(inside) and not is_nifti(inside) else None
    if found is None:
        return "compressed by gzip", "decompress it: gunzip"
    return f"compressed by gzip, and {found[0]} inside", found[1]


def _text(head: bytes) -> tuple[str, str] | None:
    """Tells the kinds of text; binary content, told by control characters and by what is not UTF-8, is none."""
    beginning = head[:4096]
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", beginning) or not _is_utf8(beginning):
        return None
    stripped = beginning.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    first, _, second = stripped.partition("\n")
    if _HTML.search(beginning[:1024]):
        return "a web page (HTML), perhaps of a login or of a download that asks for a confirmation", _DOWNLOAD
    if stripped.startswith("<?xml"):
        return "an XML file", _DOWNLOAD
    if stripped[:1] in ("{", "[") and re.match(r'[{\[]\s*["{\[\d\]}-]', stripped):
        return "JSON", _NUMBERS
    if first.count(",") and first.count(",") == second.partition("\n")[0].count(","):
        return "a table of text (CSV)", _NUMBERS
    return f"text, beginning with {first[:40]!r}", _DOWNLOAD


def _is_utf8(content: bytes) -> bool:
    """Returns whether bytes are text in UTF-8, of whose last character some may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def _head(path: Path, size: int = _HEAD) -> bytes:
    with open_regular(path) as file:
        return file.read(size)
