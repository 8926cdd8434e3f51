"""A token as text: as decoded, or where it is no text by itself, as its bytes: ⟨e2 80⟩."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from llmtrace.console.schemas import Token

NO_TEXT = "�"


def token_of(model: Any, token: int) -> Token:
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return Token(id=token, text=str(token))
    text = tokenizer.decode([token])
    if NO_TEXT in text and (raw := _bytes(tokenizer.convert_ids_to_tokens(token) or "")):
        text = f"⟨{raw.hex(' ')}⟩"
    return Token(id=token, text=text)


def _bytes(piece: str) -> bytes:
    """Of a vocabulary's entry: SentencePiece says <0xE2>, byte-level BPE writes a letter for each byte."""
    if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):
        return bytes.fromhex(match[1])
    letters = _letters()
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else b""


@cache
def _letters() -> dict[str, int]:
    """GPT-2's letter of each byte, the other way round."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
