"""Which coding of an answer a caller can read."""

GZIP = "gzip"


def packed_tag(etag: str) -> str:
    """The tag of the same answer in gzip: its bytes are others (RFC 9110 section 8.8.3.3)."""
    return f'{etag[:-1]}-{GZIP}"'


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the fields' values, joined, name gzip, or everything that they do not name (RFC 9110 section 12.5.3).

    Without a field this is no, though any coding would be allowed: who cannot unfold one seldom says so.
    """
    weights: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        weights[coding] = not any(_is_zero(text) for text in parameters)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and not value.strip().strip("0.")
