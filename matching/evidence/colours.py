"""Find the names of colours in English, German, French, Spanish, Italian, Dutch and Portuguese."""

from __future__ import annotations

from collections.abc import Iterable

# Without accents, as `words.normalise` writes them.
_NAMES = {
    "black": "black schwarz schwarze schwarzer schwarzes noir noire negro negra nero nera zwart zwarte preto preta blk",
    "white": "white weiss weisse weisser weisses blanc blanche blanco blanca bianco bianca wit witte branco branca wht",
    "grey": "grey gray grau graue grauer graues gris grigio grigia grijs grijze cinza cinzento anthracite anthrazit",
    "silver": "silver silber silbern argent argente plata plateado argento zilver zilveren prata prateado",
    "gold": "gold golden goldfarben or dore dorado oro dorato goud gouden ouro dourado",
    "red": "red rot rote roter rotes rouge rojo roja rosso rossa rood rode vermelho vermelha",
    "blue": "blue blau blaue blauer blaues bleu bleue azul blu azzurro blauw blauwe navy",
    "green": "green grun grune gruner grunes vert verte verde groen groene",
    "yellow": "yellow gelb gelbe gelber gelbes jaune amarillo amarilla giallo gialla geel gele amarelo amarela",
    "orange": "orange naranja arancione arancio oranje laranja",
    "pink": "pink rosa rose roze cor-de-rosa",
    "purple": "purple violet violett lila violette morado morada viola paars paarse roxo roxa",
    "brown": "brown braun braune brauner braunes brun brune marron marrone bruin bruine castanho castanha",
    "beige": "beige creme cream ivory elfenbein",
}
_OF_NAME = {name: colour for colour, names in _NAMES.items() for name in names.split()}
_WORDS = _OF_NAME.keys()


def colours(words: Iterable[str]) -> frozenset[str]:
    """Return the English names of the colours among normalised words."""
    return frozenset([_OF_NAME[word] for word in _WORDS & set(words)])
