"""Whether a picture file is whole, by its own structure: decoders may fill up truncated ones with grey."""

import re
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# In a JPEG's coded data, 0xFF is followed by 0 (it means 0xFF) or a restart marker; else a segment begins.
_NEXT_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_complete(data: bytes) -> bool:
    """Whether a file goes on to its end; True also for formats that are not known here."""
    if data.startswith(PNG_SIGNATURE):
        return any(kind == b"IEND" for kind, _ in png_chunks(data))
    if data.startswith(b"\xff\xd8"):
        return _jpeg_is_complete(data)
    if data.startswith(b"RIFF"):  # WebP
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM"):
        return len(data) >= int.from_bytes(data[2:6], "little")
    return True


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, content) of each chunk, up to the first one that is cut off or has a wrong checksum."""
    chunks, position = [], len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : end - 4]
        if end > len(data) or zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            break
        chunks.append((body[:4], body[4:]))
        position = end
    return chunks


def _jpeg_is_complete(data: bytes) -> bool:
    """Walk the segments to the end marker: the bytes alone may also come from an embedded thumbnail."""
    position = 2
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xD9:  # end of image
            return True
        if marker == 0xFF:  # padding
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:  # start of scan: coded data follows
            found = _NEXT_JPEG_MARKER.search(data, position)
            if found is None:
                return False
            position = found.start()
    return False
