"""Ids that are near each other: what a careless separator, pattern or collation would take for the same."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

LETTERS = "aA:*{}[]\\,;|/\t\n\x01\x7f %_?'\"~0é\u0301\u1e9b\u0130\u212a\U0001f600"


def _near(base: str) -> st.SearchStrategy[str]:
    """The same, longer, shorter, in other case, in another unicode normal form."""
    forms = [unicodedata.normalize(form, base) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    same = [base, base * 2, base[:-1], base[1:], base.swapcase(), base.casefold(), base.strip(), *forms]
    longer = [near for letter in LETTERS for near in (base + letter, letter + base)]
    return st.sampled_from([one for one in same if one]) | st.sampled_from(longer)


def hostile(count: int) -> st.SearchStrategy[tuple[str, ...]]:
    """So many different ids, some of which nearly are the same."""
    bases = st.text(st.sampled_from(LETTERS), min_size=1, max_size=4)
    near = bases.flatmap(_near)
    return (
        st.lists(bases.flatmap(lambda base: st.lists(_near(base), max_size=count)), max_size=count)
        .flatmap(
            lambda families: st.lists(
                st.sampled_from([one for family in families for one in family] or ["a"]) | near,
                min_size=count,
                max_size=count,
                unique=True,
            )
        )
        .map(tuple)
    )
