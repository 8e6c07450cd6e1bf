"""Where the field's data sets keep their pictures and labels, in the layouts that their downloads have."""

from adapt.data.images import read_first_channel
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.data.layouts.patterns import LabelFiles, Layout

CITYSCAPES = Layout(
    "Cityscapes",
    "leftImg8bit/{split}/{city}/{name}_leftImg8bit",
    (
        LabelFiles("gtFine/{split}/{city}/{name}_gtFine_labelIds.png", CITYSCAPES19),
        LabelFiles("gtFine/{split}/{city}/{name}_gtFine_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
    ),
    advice="unpack gtFine_trainvaltest.zip beside leftImg8bit, or use the pictures as an unlabelled --target",
)
ACDC = Layout(
    "ACDC",
    "rgb_anon/{condition:fog|night|rain|snow}/{split:train|val|test}/{sequence}/{name}_rgb_anon",
    (
        LabelFiles("gt/{condition}/{split}/{sequence}/{name}_gt_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
        LabelFiles("gt/{condition}/{split}/{sequence}/{name}_gt_labelIds.png", CITYSCAPES19),
    ),
    advice="unpack gt_trainval.zip beside rgb_anon, or use the pictures as an unlabelled --target",
)
DARK_ZURICH = Layout(
    "Dark Zurich",
    "rgb_anon/{split:train|val|test}/{time:night|twilight|day}/{sequence}/{name}_rgb_anon",
    (
        LabelFiles("gt/{split}/{time}/{sequence}/{name}_gt_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
        LabelFiles("gt/{split}/{time}/{sequence}/{name}_gt_labelIds.png", CITYSCAPES19),
    ),
    usual=(("time", "night"),),
    advice="only its val part has labels (Dark_Zurich_val_anon.zip); use the rest as an unlabelled --target",
)
SYNTHIA = Layout(
    "SYNTHIA-RAND-CITYSCAPES",
    "RGB/{name}",
    (LabelFiles("GT/LABELS/{name}.png", SYNTHIA16, read_first_channel),),
    folder="RAND_CITYSCAPES",
)
BDD100K = Layout(
    "BDD100K",
    "images/10k/{split}/{name}",
    (LabelFiles("labels/sem_seg/masks/{split}/{name}.png", CITYSCAPES19_TRAIN_IDS),),
    folder="bdd100k",
    advice="unpack the semantic segmentation labels of the 10K images, or use the pictures as an unlabelled "
    "--target",
)
BDD100K_SEG = Layout(
    "BDD100K",
    "seg/images/{split}/{name}",
    (LabelFiles("seg/labels/{split}/{name}_train_id.png", CITYSCAPES19_TRAIN_IDS),),
    folder="bdd100k",
)
# GTA5 has this layout too; its classes are told by its label files' palette.
OWN = Layout("images/ and labels/", "images/{name}", (LabelFiles("labels/{name}.png"),), exact=True)
OWN_SPLITS = Layout(
    "images/SPLIT/ and labels/SPLIT/",
    "images/{split:train|val|test}/{name}",
    (LabelFiles("labels/{split}/{name}.png"),),
    exact=True,
)
CAMVID = Layout(
    "CamVid (SegNet's copy)",
    "{split:train|val|test}/{name}",
    (LabelFiles("{split}annot/{name}.png", CAMVID11),),
    exact=True,
    mark="*annot",
)

LAYOUTS = (CITYSCAPES, ACDC, DARK_ZURICH, SYNTHIA, BDD100K, BDD100K_SEG, OWN, OWN_SPLITS, CAMVID)
