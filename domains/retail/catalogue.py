"""What the shop of the generated databases sells: one kind of product a line.

`name | typical price in dollars | option: value, value, ... | ...`. Within a kind no value occurs under two options, so that "the
black, corded one" needs no option names, and each kind has at least 36 combinations. The first option is the one that people name first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

_TABLE = """
Desk Lamp | 36 | color: black, white, sage, copper | light: warm, neutral, cool | power: corded, battery, solar
Floor Lamp | 89 | finish: brass, nickel, oak, matte black | shade: linen, paper, glass | height: 130 cm, 150 cm, 170 cm
String Lights | 19 | color: white, amber, rainbow, blue | length: 5 m, 10 m, 20 m | bulb: globe, star, teardrop
Throw Blanket | 45 | color: cream, rust, navy, olive | fabric: wool, fleece, cotton | size: small, medium, large
Bath Towel | 18 | color: white, teal, coral, slate | weight: light, standard, plush | size: hand, bath, sheet
Pillow | 34 | filling: down, latex, buckwheat, memory foam | firmness: soft, medium, firm | size: standard, queen, king
Duvet Cover | 62 | color: ivory, sky, moss, charcoal | fabric: percale, sateen, flannel | size: twin, queen, king
Area Rug | 148 | pattern: plain, striped, floral, geometric | fabric: jute, wool, nylon | size: 1x2 m, 2x3 m, 3x4 m
Curtain | 41 | color: white, grey, mustard, plum | type: sheer, blackout, thermal | length: 160 cm, 210 cm, 240 cm
Wall Mirror | 77 | shape: round, oval, arched, square | frame: gold, walnut, frameless | size: small, medium, large
Picture Frame | 17 | finish: oak, walnut, silver, black | size: 10x15, 20x30, 30x40 | front: glass, acrylic, magnetic
Candle | 16 | scent: cedar, lavender, citrus, vanilla, unscented | wax: soy, beeswax, coconut | jar: small, medium, large
Plant Pot | 23 | color: terracotta, white, indigo, green | material: clay, metal, bamboo | size: 12 cm, 18 cm, 25 cm
Watering Can | 27 | color: green, copper, cream, red | volume: 1 liter, 2 liters, 5 liters | spout: long, short, shower
Garden Chair | 96 | color: teak, white, graphite, blue | type: folding, stacking, reclining | cushion: padded, bare, removable
Hammock | 72 | color: natural, sunset, ocean, forest | fabric: rope, canvas, mesh | size: single, double, family
Tent | 219 | color: orange, green, sand, blue | capacity: 2 person, 3 person, 4 person | season: summer, three season, winter
Sleeping Bag | 118 | color: red, navy, lime, grey | rating: 10 C, 0 C, minus 10 C | shape: mummy, rectangular, quilt
Camping Stove | 58 | fuel: gas, alcohol, wood, multifuel | burners: single, double, triple | size: compact, standard, large
Cooler Box | 84 | color: blue, white, tan, red | volume: 15 liters, 30 liters, 45 liters | lid: hinged, split, lift off
Rain Jacket | 112 | color: yellow, navy, black, teal | size: XS, S, M, L, XL | hood: fixed, removable, hoodless
Wool Sweater | 88 | color: oatmeal, burgundy, forest, grey | size: S, M, L, XL | neck: crew, roll, half zip
Hoodie | 54 | color: black, lilac, khaki, ash | size: S, M, L, XL | style: pullover, full zip, cropped
Jeans | 69 | wash: dark, light, raw, stone | waist: 30, 32, 34, 36 | fit: slim, straight, relaxed
Polo Shirt | 38 | color: white, pine, cobalt, peach | size: S, M, L, XL | fabric: pique, jersey, linen
Winter Hat | 24 | color: red, cream, charcoal, teal | style: beanie, trapper, pompom | lining: fleece, silk, unlined
Leather Belt | 42 | color: tan, black, chestnut, white | width: narrow, medium, wide | buckle: silver, brass, plate
Ankle Socks | 13 | color: white, black, pink, striped | pack: 3 pairs, 6 pairs, 12 pairs | size: small, medium, large
Trail Shoes | 124 | color: lime, black, orange, slate | size: 7, 8, 9, 10, 11 | drop: low, mid, high
Sandals | 52 | color: tan, black, sand, coral | size: 6, 7, 8, 9, 10 | strap: leather, rubber, webbing
Umbrella | 29 | color: black, clear, navy, yellow | type: folding, stick, golf | opening: manual, automatic, one touch
Tote Bag | 32 | color: natural, black, olive, ochre | fabric: canvas, hemp, recycled | closure: open, zip, snap
Laptop Sleeve | 35 | color: grey, navy, rose, green | size: 13 inch, 14 inch, 16 inch | material: felt, neoprene, leather
Suitcase | 165 | color: silver, black, teal, burgundy | size: cabin, medium, large | shell: hard, soft, expandable
Frying Pan | 57 | coating: ceramic, steel, cast iron, nonstick | diameter: 20 cm, 24 cm, 28 cm | handle: wood, metal, silicone
Saucepan | 49 | material: copper, steel, enamel, aluminum | volume: 1 liter, 2 liters, 3 liters | lid: glass, metal, lidless
Chef Knife | 92 | steel: carbon, stainless, damascus, ceramic | length: 15 cm, 18 cm, 21 cm | handle: walnut, resin, pakka
Cutting Board | 31 | material: bamboo, maple, rubber, plastic | size: small, medium, large | edge: flat, juice groove, feet
Mug | 14 | color: white, blue, speckled, black | volume: 250 ml, 350 ml, 450 ml | material: stoneware, enamel, porcelain
Dinner Plate | 22 | color: white, sand, sage, midnight | set: single, set of 4, set of 6 | rim: flat, raised, scalloped
Blender | 79 | color: red, white, black, mint | jar: glass, plastic, steel | speeds: 2 speeds, 5 speeds, 10 speeds
Toaster | 46 | color: cream, black, steel, pistachio | slots: 2 slots, 4 slots, long slot | control: dial, digital, lever
Rice Cooker | 68 | color: white, silver, red, black | capacity: 3 cups, 6 cups, 10 cups | lid: glass, sealed, vented
Stand Mixer | 289 | color: pearl, cherry, aqua, onyx | bowl: 4 liters, 5 liters, 7 liters | head: tilt, lift, fixed
Hand Vacuum | 74 | color: white, purple, grey, orange | power: 60 W, 90 W, 120 W | filter: foam, HEPA, cyclone
Robot Vacuum | 312 | color: white, black, rose, bronze | mapping: camera, laser, gyro | dock: charging, self emptying, washing
Fan | 61 | type: tower, desk, pedestal, clip | speeds: 3 speeds, 6 speeds, 9 speeds | color: white, black, wood
Space Heater | 93 | type: oil, ceramic, infrared, convector | power: 1000 W, 1500 W, 2000 W | control: dial, remote, app
Humidifier | 59 | color: white, blue, bamboo, pink | tank: 1 liter, 3 liters, 5 liters | mist: cool, warm, dual
Alarm Clock | 26 | color: black, mint, walnut, red | display: LED, analog, projection | sound: bell, radio, chime
Monitor | 268 | size: 24 inch, 27 inch, 32 inch, 34 inch | panel: IPS, VA, OLED | refresh: 60 Hz, 120 Hz, 165 Hz
Webcam | 78 | resolution: 720p, 1080p, 1440p, 4K | mount: clip, tripod, magnetic | microphone: mono, stereo, silent
Numeric Keypad | 33 | switch: linear, tactile, clicky, scissor | link: cable, bluetooth, radio | color: white, black, blue
USB Hub | 37 | ports: 3 ports, 4 ports, 7 ports, 10 ports | plug: type A, type C, dual plug | color: grey, black, silver
Router | 137 | standard: wifi 5, wifi 6, wifi 6E, wifi 7 | antennas: 2 antennas, 4 antennas, 8 antennas | color: white, black, grey
Projector | 389 | resolution: 720p, 1080p, 4K, 8K | lamp: LED, laser, halogen | throw: short, standard, long
Turntable | 233 | finish: walnut, black, white, cherry | drive: belt, direct, idler | output: phono, line, bluetooth
Ukulele | 84 | size: soprano, concert, tenor, baritone | wood: koa, mahogany, spruce | strings: nylon, carbon, wound
Board Game | 39 | theme: trains, farming, space, mystery | players: 2 players, 4 players, 6 players | language: English, Spanish, French
Sketchbook | 15 | paper: smooth, rough, toned, black | size: A3, A4, A5 | binding: spiral, sewn, glued
Fountain Pen | 48 | color: black, ruby, sapphire, ivory | nib: fine, medium, broad | filling: cartridge, converter, piston
Desk Organizer | 28 | material: bamboo, mesh, acrylic, felt | slots: 4 slots, 6 slots, 8 slots | drawer: one drawer, two drawers, open
Dog Leash | 21 | color: red, black, blue, orange | length: 1 m, 2 m, 5 m | material: nylon, leather, rope
Cat Tree | 98 | color: beige, grey, brown, white | height: 90 cm, 120 cm, 160 cm | cover: plush, sisal, carpet
Jump Rope | 20 | color: black, pink, green, yellow | cable: steel, beaded, PVC | handle: foam, wood, weighted
Kettlebell | 47 | weight: 4 kg, 8 kg, 12 kg, 16 kg | coating: vinyl, enamel, bare iron | grip: wide, slim, ribbed
Bike Light | 30 | beam: 200 lm, 400 lm, 800 lm, 1200 lm | mount: strap, clamp, magnet | power: USB, cell, dynamo
Bike Lock | 44 | type: chain, cable, folding, shackle | lock: key, code, fingerprint | length: 60 cm, 90 cm, 120 cm
Swim Goggles | 25 | lens: clear, smoke, mirror, amber | seal: silicone, foam, gasket | size: kids, adult, wide
Yoga Block | 17 | color: teal, grey, plum, sand | material: cork, foam, wood | pack: single, pair, set of 4
"""

SERIES = (
    *("Alpine", "Amber", "Anchor", "Aspen", "Aurora", "Birch", "Breeze", "Cedar", "Classic", "Cobalt", "Comet", "Coral", "Crest"),
    *("Delta", "Ember", "Everyday", "Fjord", "Harbor", "Heritage", "Horizon", "Juniper", "Lagoon", "Linden", "Lumen", "Meadow"),
    *("Metro", "Mistral", "Nordic", "Nova", "Orchard", "Pioneer", "Prairie", "Quartz", "Ridge", "Sierra", "Solstice", "Studio"),
    *("Summit", "Tidal", "Tundra", "Velvet", "Willow", "Zephyr"),
)
"""Names of product lines: a bigger shop sells each kind in several of them."""


@dataclass(frozen=True)
class Kind:
    """A kind of product: its name, typical price in dollars and options."""

    name: str
    price: float
    options: dict[str, tuple[str, ...]]

    @property
    def combinations(self) -> int:
        """How many different variants it can have."""
        return prod(len(values) for values in self.options.values())


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, in the table's order."""
    found = []
    for line in _TABLE.strip().splitlines():
        name, price, *options = (part.strip() for part in line.split("|"))
        pairs = (option.split(":") for option in options)
        found.append(Kind(name, float(price), {key: tuple(value.strip() for value in values.split(",")) for key, values in pairs}))
    return tuple(found)


def product_name(number: int) -> tuple[str, Kind]:
    """The name and kind of a shop's product of this number (from 0); every number has its own name."""
    lap, at = divmod(number, len(kinds()))
    kind = kinds()[at]
    if lap == 0:
        return kind.name, kind
    edition, line = divmod(lap - 1, len(SERIES))
    return f"{SERIES[line]} {kind.name}{f' {edition + 1}' if edition else ''}", kind
