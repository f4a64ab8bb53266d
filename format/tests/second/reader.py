"""A second reader of the object format, written from docs/format.md alone.

It shares no code with the crate `format`: BLAKE3, AEADs, zstd and CBOR come from packages, the rest is here. It reads
the objects of `tests/vectors`: those in `good` from every window of k columns, and it refuses those in `hostile`. Of
`tests/golden` it finds the locators of all labels, and opens the compressed block.

    pip install --requirement requirements.txt
    python3 reader.py ../vectors ../golden

A file of `vectors` has what nodes keep: `label`, `public`, `sealed`, and `stripes`, a list of `{row, strips}`, all in hex; a strip
that is not there is null.
"""

import base64
import json
import pathlib
import sys

import blake3
import cbor2
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KIB = 1024
BLOCK = 256 * KIB


class Refused(Exception):
    """What is read breaks the format."""


def need(condition, what):
    if not condition:
        raise Refused(what)


def hash_of(data):
    return blake3.blake3(data).digest()


def derive(context, data):
    return blake3.blake3(data, derive_key_context=context).digest()


# Section 1: conventions. One meaning has one byte string, so what is read must encode to itself.
def cbor(data):
    try:
        value = cbor2.loads(data)
    except cbor2.CBORDecodeError as error:
        raise Refused(f"not CBOR: {error}") from error
    need(cbor2.dumps(value, canonical=True) == data, "not deterministic CBOR")
    need(isinstance(value, dict), "not a map")
    return value


# Section 2: names and keys. Returns the mode and S.
def capability(label):
    need(len(label) == 60, "a label has 60 characters")
    try:
        raw = base64.b32decode(label.upper() + "====")
    except ValueError as error:
        raise Refused(f"not base32: {error}") from error
    need(base64.b32encode(raw).decode().rstrip("=").lower() == label.lower(), "stray bits")
    need(raw[0] in (0, 2), "mode 0 or 2")
    need(hash_of(raw[:33])[:4] == raw[33:], "the check of the label")
    return raw[0], raw[1:33]


# Section 3: the erasure code, GF(2^8) with the polynomial 0x11d.
EXP, LOG = [0] * 512, [0] * 256
value = 1
for power in range(255):
    EXP[power] = EXP[power + 255] = value
    LOG[value] = power
    value = value << 1 ^ (0x11D if value & 0x80 else 0)


def times(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def power(base, exponent):
    result = 1
    for _ in range(exponent):
        result = times(result, base)
    return result


def product(a, b):
    def cell(row, column):
        total = 0
        for k, factor in enumerate(row):
            total ^= times(factor, b[k][column])
        return total

    return [[cell(row, column) for column in range(len(b[0]))] for row in a]


def inverse(matrix):
    size = len(matrix)
    work = [list(row) + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if work[row][column])
        work[column], work[pivot] = work[pivot], work[column]
        scale = EXP[255 - LOG[work[column][column]]]
        work[column] = [times(scale, value) for value in work[column]]
        for row in range(size):
            factor = work[row][column]
            if row != column and factor:
                work[row] = [a ^ times(factor, b) for a, b in zip(work[row], work[column])]
    return [row[size:] for row in work]


def code(k, m):
    vandermonde = [[power(row, column) for column in range(k)] for row in range(k + m)]
    return product(vandermonde, inverse(vandermonde[:k]))


def combine(factors, strips):
    total = 0
    for factor, strip in zip(factors, strips):
        table = bytes(times(factor, byte) for byte in range(256))
        total ^= int.from_bytes(strip.translate(table), "big")
    return total.to_bytes(len(strips[0]), "big")


def recover(k, m, strips):
    have = [column for column, strip in enumerate(strips) if strip is not None][:k]
    need(len(have) == k, f"{len(have)} of {k} strips are there")
    if have == list(range(k)):
        return strips[:k]
    matrix = code(k, m)
    decode = inverse([matrix[column] for column in have])
    sources = [strips[column] for column in have]
    return [strips[column] if strips[column] is not None else combine(decode[column], sources) for column in range(k)]


# Section 3: the tail rule. Returns the length of each block of a stripe.
def blocks(left, k):
    if left >= k * BLOCK:
        return [BLOCK] * k
    columns = min(max(-(-left // (64 * KIB)), 1), k)
    size = min(-(-(-(-left // columns)) // 64) * 64, BLOCK)
    return [size] * (columns - 1) + [left - size * (columns - 1)]


# Section 3: the shape of a zstd frame.
def check_frame(frame, length):
    magic = bytes.fromhex("28b52ffd")
    if length < 256:
        header = magic + b"\x20" + length.to_bytes(1, "little")
    elif length < 65792:
        header = magic + b"\x60" + (length - 256).to_bytes(2, "little")
    else:
        header = magic + b"\xa0" + length.to_bytes(4, "little")
    need(frame[: len(header)] == header, "the header of a frame")
    most, at, last, count = min(length, 128 * KIB), len(header), 0, 0
    while not last:
        count += 1
        need(count <= 64, "a frame of too many zstd blocks")
        need(len(frame) >= at + 3, "a frame without its last block")
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        need(kind < 3 and size <= most, "the header of a zstd block")
        body = frame[at + 3 : at + 3 + (1 if kind == 1 else size)]
        at += 3 + (1 if kind == 1 else size)
        if kind == 2:
            check_compressed(body, most)
    need(len(frame) == at, "bytes behind the frame")


def check_compressed(body, most):
    kind, form = body[0] & 3, body[0] >> 2 & 3
    if kind < 2:
        size, shift, bits = {1: (2, 4, 12), 3: (3, 4, 20)}.get(form, (1, 3, 5))
    else:
        size, shift, bits = {2: (4, 4, 14), 3: (5, 4, 18)}.get(form, (3, 4, 10))
    need(len(body) >= size, "the header of the literals")
    head = int.from_bytes(body[:size], "little")
    literals = head >> shift & (1 << bits) - 1
    need(literals <= most and (kind < 2 or form == 0 or literals >= 6), "the number of literals")
    behind = size + (literals, 1, head >> shift + bits, head >> shift + bits)[kind]
    need(len(body) > behind, "a block without sequences")
    sequences = body[behind:]
    if sequences == b"\0":
        return
    first = sequences[0]
    need(first != 0, "bytes behind no sequences")
    modes = sequences[1 if first < 128 else 2 if first < 255 else 3]
    need(modes & 3 == 0, "reserved bits")


# Section 3: strips and seals.
def open_strip(strip, suite, key, index, last, length):
    codec, zeros = strip[0], strip[1:4]
    need(zeros == b"\0\0\0" and codec in (0, 1), "a strip's header")
    size = int.from_bytes(strip[4:8], "little")
    need(16 <= size <= len(strip) - 8, "the length in a strip's header")
    nonce = index.to_bytes(8, "little") + bytes(4)
    extra = bytes([1, suite, codec]) + index.to_bytes(8, "little") + bytes([last])
    aead = {1: ChaCha20Poly1305, 2: AESGCM}[suite](key)
    text = aead.decrypt(nonce, strip[8 : 8 + size], extra)
    if codec == 1:
        need(len(text) < length, "a compressed block is shorter than the block")
        expected, frame = text[:32], text[32:]
        check_frame(frame, length)
        text = zstandard.ZstdDecompressor().decompress(frame)
        need(hash_of(text) == expected, "the hash of a block")
    need(len(text) == length, "the length of a block")
    return text


# Section 18: a stable name. Returns what a vector hashes: S of the object, the end u64, the seconds u32.
def pointer(secret, locator, p, sealed):
    public, oid = cbor(p), hash_of(p)
    need(set(public) == {0, 1, 2, 3, 10} and public[0] == public[1] == public[10] == 1 and public[3] == 0, "a name")
    pointer_key = derive("evernear 2026 v1 pointer", secret)
    salt, sealed = sealed[:32], sealed[32:]
    text = ChaCha20Poly1305(blake3.blake3(salt, key=pointer_key).digest()).decrypt(bytes(12), sealed, locator + oid)
    it = cbor(text)
    need(len(text) <= 128 and set(it) == set(range(5)) and it[0] == 1 and it[4] <= 86400, "a pointer")
    need(len(it[1]) == len(it[2]) == 32, "the keys of a pointer")
    need(derive("evernear 2026 v1 name", it[1] + oid) == secret, "the name commits to another owner or seed")
    return it[2] + it[3].to_bytes(8, "little") + it[4].to_bytes(4, "little")


def read(stored, lost=()):
    """Returns the plaintext of an object; `lost` are columns that are not used."""
    mode, secret = capability(stored["label"])
    locator = derive("evernear 2026 v1 locator", secret)
    p, sealed = bytes.fromhex(stored["public"]), bytes.fromhex(stored["sealed"])
    oid = hash_of(p)
    if mode == 2:
        return pointer(secret, locator, p, sealed)

    # Section 5: the sealed manifest.
    manifest_key = derive("evernear 2026 v1 manifest", secret)
    m = ChaCha20Poly1305(manifest_key).decrypt(bytes(12), sealed, locator + oid)
    need(derive("evernear 2026 v1 capability", m) == secret, "the name commits to another manifest")
    public, manifest = cbor(p), cbor(m)
    need(public[0] == manifest[0] == 1 and public[1] == manifest[1] in (1, 2), "version and suite")
    lines = [manifest[6], manifest[7], *manifest.get(12, {})]
    control = range(0x20), range(0x7F, 0xA0)
    need(not any(ord(letter) in codes for line in lines for letter in line for codes in control), "control characters")
    need(manifest[3] == oid, "the manifest is of another object")
    length = manifest[4]
    if public[3] == 0:
        need(set(public) == {0, 1, 2, 3} and len(manifest[10]) == length, "an inline object")
        need(hash_of(manifest[10]) == manifest[5], "the hash of the plaintext")
        return manifest[10]
    need(set(public) == set(range(10)) and 10 not in manifest, "an object with shards")

    # Sections 4 and 10: the layout, the rows, the root.
    suite, stripes, k, m, tail = public[1], public[3], public[4], public[5], public[6]
    need(k >= 1 and m >= 1 and k + m <= 256 and 1 <= tail <= k, "the redundancy")
    lengths = [blocks(min(length - at, k * BLOCK), k) for at in range(0, length, k * BLOCK)]
    need(len(lengths) == stripes == len(stored["stripes"]) and len(lengths[-1]) == tail, "the layout")
    rows = [bytes.fromhex(stripe["row"]) for stripe in stored["stripes"]]
    need(all(len(row) == 4 + 32 * (k + m) for row in rows), "the length of a row")
    need(hash_of(b"".join(map(hash_of, rows))) == public[9], "the root")
    sizes = [int.from_bytes(row[:4], "little") for row in rows]
    need(all(25 <= size <= BLOCK + 24 for size in sizes), "the length of a strip")
    need(sum(sizes[:-1]) == public[7] and sizes[-1] == public[8], "the bytes of a column")

    plain = []
    for number, (stripe, row, size) in enumerate(zip(stored["stripes"], rows, sizes)):
        here = lengths[number]
        hashes = [row[4 + 32 * column : 36 + 32 * column] for column in range(k + m)]
        strips = [None if strip is None else bytes.fromhex(strip) for strip in stripe["strips"]]
        for column, strip in enumerate(strips):
            if len(here) <= column < k:
                need(strip is None and hashes[column] == bytes(32), "the tail leaves the column empty")
                strips[column] = bytes(size)
                continue
            need(strip is not None, "a strip is left out")
            need(len(strip) == size and hash_of(strip) == hashes[column], "a strip is not the one of its row")
            if column in lost:
                strips[column] = None
        for column, strip in enumerate(recover(k, m, strips)[: len(here)]):
            need(hash_of(strip) == hashes[column], "the strips are no codeword")
            index = number * k + column
            last = number + 1 == stripes and column + 1 == tail
            plain.append(open_strip(strip, suite, manifest[2], index, int(last), here[column]))
    plain = b"".join(plain)
    need(hash_of(plain) == manifest[5], "the hash of the plaintext")
    return plain


def is_refused(stored, lost):
    try:
        read(stored, lost)
    except (Refused, InvalidTag, zstandard.ZstdError, KeyError, TypeError, ValueError, IndexError):
        return True
    return False


def golden(folder):
    """Checks what `tests/golden` has for those who do not make its objects. Returns the number of labels."""
    names, label = 0, None
    for line in (folder / "objects.txt").read_text().splitlines():
        key, _, said = line.strip().partition(" ")
        if key == "label":
            label = said.strip()
        if key == "locator":
            found = derive("evernear 2026 v1 locator", capability(label)[1]).hex()
            if found != said.strip():
                sys.exit(f"{label} has locator {found}")
            names += 1
    label, *parts = (folder / "compressed.txt").read_text().split()
    p, sealed, strip = map(bytes.fromhex, parts)
    secret = capability(label)[1]
    locator = derive("evernear 2026 v1 locator", secret)
    m = ChaCha20Poly1305(derive("evernear 2026 v1 manifest", secret)).decrypt(bytes(12), sealed, locator + hash_of(p))
    manifest, length = cbor(m), cbor(m)[4]
    need(blocks(length, cbor(p)[4]) == [length], "one block")
    text = open_strip(strip, cbor(p)[1], manifest[2], 0, 1, length)
    if text != b"A block that compresses. " * 1000 or hash_of(text) != manifest[5]:
        sys.exit("compressed.txt is other bytes")
    return names


def main(folder, old):
    counts = {"good": 0, "hostile": 0}
    for path in sorted(folder.glob("good/*.json")):
        stored = json.loads(path.read_text())
        columns = len(stored["stripes"][0]["strips"]) if stored["stripes"] else 1
        parity = cbor(bytes.fromhex(stored["public"])).get(5, 0)
        for first in range(columns):
            lost = {(first + step) % columns for step in range(parity)}
            if hash_of(read(stored, lost)).hex() != stored["blake3"]:
                sys.exit(f"{path.name} without {lost} is other bytes")
        counts["good"] += 1
    for path in sorted(folder.glob("hostile/*.json")):
        # What is no codeword is refused by whoever has to recover.
        lost = {0} if path.stem == "strips-that-are-no-codeword" else set()
        if not is_refused(json.loads(path.read_text()), lost):
            sys.exit(f"{path.name} is read")
        counts["hostile"] += 1
    if not all(counts.values()):
        sys.exit(f"no vectors in {folder}")
    names = golden(old)
    if not names:
        sys.exit(f"no labels in {old}")
    print(f"{counts['good']} objects read, {counts['hostile']} refused, {names} labels found")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
