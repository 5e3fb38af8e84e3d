"""The words pocket's stories, schemas and string problems are made of."""

from tools.pocket.generator.seeding import split_words

PEOPLE = split_words(
    "Ann Ben Cleo Dan Eva Finn Gia Hugo Ida Jon Kim Leo Mia Ned Ola Pia Quin Rosa Sam Tess Uma Vik Wes Yara Zoe"
)
THINGS = split_words(
    "apples books cards coins cups eggs flags jars keys lamps marbles nails pens pins plates rings seeds "
    "shells stamps stones tiles tickets"
)
CONTAINERS = ("bags", "boxes", "crates", "packs", "shelves", "trays")
CITIES = ("Bergen", "Cadiz", "Delft", "Ghent", "Lyon", "Malmo", "Porto", "Turin", "Vaasa", "York")
WORDS = split_words(
    "apple amber anchor arrow autumn basket beacon bird blanket bottle branch bridge bronze bucket butter "
    "button cabin candle canyon carpet castle cedar chalk cherry circle cloud copper coral cotton cradle "
    "desert dragon eagle ember engine fabric falcon feather fern finger flute forest fossil frost garden "
    "ginger glacier glove grape hammer harbor hazel helmet honey island ivory jacket jungle kettle ladder "
    "lantern lemon lily linen lizard magnet maple marble meadow melon mirror monkey mountain needle "
    "nickel oak ocean olive onion orange orchid otter owl paddle panda paper parrot pebble pencil pepper "
    "pillow planet plum pocket pond potato prairie puzzle quartz rabbit raven ribbon river robin rocket "
    "saddle salmon sand shadow silver spider spoon stone storm summer sun table temple thunder tiger "
    "timber tulip tunnel valley velvet violin walnut water willow window winter wolf zebra"
)
KINDS = {
    "fruit": ("apple", "cherry", "grape", "lemon", "melon", "olive", "orange", "plum"),
    "animal": ("eagle", "lizard", "monkey", "otter", "panda", "rabbit", "tiger", "zebra"),
    "metal": ("bronze", "copper", "gold", "iron", "lead", "nickel", "silver", "zinc"),
    "tree": ("ash", "birch", "cedar", "elm", "maple", "oak", "pine", "willow"),
    "tool": ("axe", "chisel", "drill", "hammer", "needle", "pliers", "saw", "shovel"),
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = ("black", "blue", "brown", "green", "grey", "orange", "pink", "red", "white", "yellow")
