"""CIFAR-100: tiny photographs of a hundred classes."""

from robustbench_pcl.data.spec import DatasetSpec

FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

SPEC = DatasetSpec(
    name="cifar100",
    title="CIFAR-100",
    shape=(3, 32, 32),
    classes=tuple(FINE_CLASSES.split()),
    train_images=50_000,
    test_images=10_000,
    augmentation=("crop", "flip"),
    eps=0.03,
    training_eps=(0.01, 0.05),
    carlini_wagner_c=0.1,
    model="resnet110",
    license="no formal licence; the authors ask to be cited",
    citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    torchvision="CIFAR100",
)
