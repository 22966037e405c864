"""Digests as words that two people can compare over a phone.

256 short English words, none of which sounds like another; one word is one byte.
"""

from __future__ import annotations

__all__ = ["WORDS", "spell"]

WORDS: tuple[str, ...] = tuple(
    """
    acid actor adobe agent album alarm almond amber anchor angle apple apron arch
    arrow atlas aunt autumn axis bacon badge bamboo banjo barn basket beach beard
    bench bicycle bishop blanket bonus bottle branch bread bridge bronze bucket
    buffalo butter cabin cactus camera canal candle canyon carbon castle cedar cello
    chalk cherry chimney cinema circus clay clinic clover cobra coffee comet copper
    coral cotton cousin cradle crystal cube cupboard curtain daisy dance dentist
    desert diamond dinner doctor dolphin donkey dragon drawer drum duchess eagle
    echo eclipse elbow elephant emerald engine envelope fabric falcon farmer feather
    fiddle finger flame flute forest fossil fountain fridge frost galaxy garden
    garlic gazelle giant ginger giraffe glacier goblet gorilla granite grape guitar
    hammer harbor harvest helmet hermit hockey honey horizon hotel hurdle iceberg
    igloo indigo insect island ivory jacket jaguar jelly jewel jungle kangaroo
    kernel kettle kidney kitchen kiwi ladder lagoon lantern laptop lemon leopard
    library lizard lobster lotus magnet mango maple marble meadow melon menu mercury
    mirror monkey mosaic motor muffin museum napkin needle nephew nickel noodle
    novel nutmeg oasis ocean octopus olive onion opera orbit orchid otter oxygen
    oyster paddle palace panther parrot pasta peanut pebble pencil penguin pepper
    piano pigeon pillow pirate planet plaza pocket polar pony potato prism pudding
    puzzle pyramid quartz quilt rabbit radar radish raven ribbon river robin rocket
    ruby saddle salmon sandal satin scarf school scorpion shadow shovel silver siren
    sketch soup spider sponge squirrel sugar summer sunset swallow tango temple
    tiger timber toast tomato tornado trumpet tulip tunnel turtle umbrella uncle
    valley velvet violin
    """.split()  # noqa: SIM905 - a list of 256 lines helps nobody
)


def spell(digest: bytes, *, count: int = 12) -> str:
    """Return the first `count` bytes of a digest as words, in groups of four."""
    words = [WORDS[byte] for byte in digest[:count]]
    groups = [" ".join(words[start : start + 4]) for start in range(0, len(words), 4)]
    return " - ".join(groups)
