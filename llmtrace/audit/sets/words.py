"""The words that sets are filled with: harmless, one token each where it matters, and known to `tiny-english`."""

NAMES = (
    "Mary John Tom Anna Alice Bob Kate Paul James Sarah David Laura Peter Emma Jack Lucy Mark Jane Simon Nina Adam Rose"
).split()
OBJECTS = "drink book ball gift key ring map letter flower coin".split()
COLOURS = "red blue green black white brown yellow".split()
ANIMALS = "cat dog fish bird horse lion mouse sheep".split()
FRUIT = "apple lemon grape cherry peach melon banana orange".split()
PLACES = "store park school beach office market garden library station museum".split()
