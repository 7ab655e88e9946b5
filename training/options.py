"""The command line of main.py."""

from argparse import ArgumentTypeError

import scheduler
from losses_regional import REGIONAL_LOSSES, checked_options, parts_of
from networks import NETWORKS
from networks.unet3d import LEVELS
from scoring import rows
from scoring.run_files import SCORES, check_patch
from utils import argument_parser

ALL = "all"          # of --boundary-classes: the background too
MEDIAN = "median"    # of --loss-options absent_size: the class's median size in the training set
LEAST = 2 ** LEVELS  # voxels of a patch along an axis, of which the deepest level has one

PER_CLASS = ("weights", "absent_size")  # options of a loss that are lists

# Least and greatest value of an option.
LIMITS = {"width": (1, 4096), "epochs": (1, 10**6), "batch_size": (1, 10**5),
          "threads": (1, 1024), "seed": (0, 2**63 - 1), "lr": (1e-12, 1e3),
          "gdl_max_weight": (1e-30, 1e30)}


def parse(argv, description):
    """The options, checked as far as they can be without the data.

    argparse ends the program where they are wrong.
    """
    parser = argument_parser(description)
    for add_options in (add_files, add_loss, add_network, add_training, add_machine):
        add_options(parser.add_argument)
    args = parser.parse_args(argv)

    try:
        take_row(args)
        take_schedule(args)
        args.loss_options = loss_options(args)
        check_size(args.patch)
        if ALL in (args.boundary_classes or ()) and args.boundary_classes != [ALL]:
            raise ValueError("--boundary-classes: expected all alone, or numbers, found both")
    except ValueError as error:
        parser.error(str(error))

    choose_network(args, parser.error)
    if args.lesion_slices and args.dims == 3:
        parser.error("--lesion-slices: expected a network of slices, found --dims 3, whose patches "
                     "are of volumes; leave one of them out")
    if args.deterministic and args.compile:
        parser.error("--deterministic: not with --compile, whose kernels are chosen by their "
                     "speed; leave one of them out")
    if args.cuda_graph and parts_of(args.loss)[0] == "hausdorff":
        parser.error("--cuda-graph: not with hausdorff, which computes on the CPU in every step; "
                     "leave one of them out")
    check_limits(args, parser.error)
    return args


# Options ------------------------------------------------------------------------------------------

def add_files(add):
    add("--data", required=True, metavar="FOLDER", help="data folder written by preprocess.py")
    add("--fold", type=int, metavar="K", help="the fold that validates, from 0, of a data folder "
        "made with --split folds:N; all others train")
    add("--out", required=True, metavar="FOLDER",
        help="run folder, e.g. results/wmh/gdl/seed0")


def add_loss(add):
    add("--row", help="a row of the table: a loss, or one with what is changed, e.g. "
        "gdl+boundary-alpha0.5, gdl+boundary-floor0.5-warm50, gdl-cap1, dice+ce-batch, "
        "gdl-medianabsent, gdl-lesionslices, boundary-background; stands for --loss, --schedule, "
        "--gdl-max-weight, --loss-options, --lesion-slices and --boundary-classes all, and goes "
        "before them")
    add("--loss", help=f"boundary, a regional loss ({', '.join(REGIONAL_LOSSES)}), or one with "
        "+boundary, e.g. dice+ce+boundary (default gdl+boundary)")
    add("--loss-options", nargs="+", metavar="NAME=NUMBER", help="of the regional loss, e.g. "
        "gamma=1 for focal, alpha=0.5 beta=0.5 for tversky, weights=1,20 for ce, wce, focal, one "
        "per class, batch=1 for gdl, dice, dice+ce and the tverskys: sums over the batch together, "
        "absent_size=median for gdl: an absent class weighs as at its median size (default: the "
        "papers'; wce, gsl: inverse frequencies of the training pixels)")


def add_network(add):
    add("--seed", type=int, default=0,
        help="fixes the initial weights and the order of the slices (default 0)")
    add("--network", choices=NETWORKS,
        help="docs/losses.md says what each is (default unet, with --dims 3 unet3d)")
    add("--dims", type=int, choices=(2, 3), help="train on slices, or on patches of volumes "
        "(default: what the network takes)")
    add("--patch", type=int, nargs=3, metavar=("SLICES", "ROWS", "COLUMNS"), help="of --dims 3, "
        "in voxels of the data folder, no larger than its largest volume (default: the median "
        "volume's size, its slices rounded up to a multiple of 8, at most 32 128 128)")
    add("--width", type=int, default=64, help="channels at full resolution (default 64)")


def add_training(add):
    add("--epochs", type=int, default=200,
        help="a finished run continues when this is raised, but for --lr-schedule poly (default "
             "200)")
    add("--batch-size", type=int, help="slices (default 8; 4 for isles with --protocol code2018), "
        "or patches (default 2)")
    add("--score", choices=SCORES, default="val_dice", help="what chooses the best epoch, and "
        "halves the learning rate on a plateau: DSC over slices, which an empty mask can win (the "
        "paper's, default val_dice), per scan, over slices with a lesion, or F1 of lesions")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate at the start (default 0.001)")
    add("--lr-schedule", choices=scheduler.LR_SCHEDULES, default="plateau", help="plateau: halved "
        "after 20 epochs without a better score (the paper's; by --protocol code2018 that code's "
        "rule), which trains a loss that is slow to score at hardly any rate; to compare losses "
        "take poly, falling to 0 as (1 - epoch / epochs)^0.9, or constant (default plateau)")
    add("--schedule", help="of alpha: rebalance[:STEP], increase[:STEP], constant:ALPHA, "
        "switch:EPOCHS[:ALPHA] or code2018; after STEP (0.01) may stand :FLOOR (0.01) and :WARM_UP "
        "(0), the epochs before alpha falls, as in rebalance:0.005:0.5:50 (default: the "
        "protocol's, and of the paper's a STEP of 2 / epochs, so that alpha reaches its floor half "
        "way; a run that continues keeps its own STEP)")
    add("--protocol", choices=("paper", "code2018"), default="paper", help="the paper's text or "
        "the authors' code: loss weights, learning-rate rule, Adam betas, ISLES batch size "
        "(default paper)")
    add("--boundary-classes", type=class_or_all, nargs="+", metavar="K", help="classes that the "
        "boundary loss covers, 0 the background; all: every one (default: the foreground's)")
    add("--lesion-slices", action="store_true", help="train on the slices with foreground alone; "
        "validation stays as it is")
    add("--augment", action="store_true", help="change image, label and maps of each "
        "training step together: flips, right angles, small affine changes (of slices with maps of "
        "slices), contrast and brightness, drawn by seed, epoch and step (the paper has none)")
    add("--gdl-max-weight", type=float, help="cap of the GDL's class weight, e.g. 1 (default: "
        "none, as in the paper)")


def add_machine(add):
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    add("--amp", default="auto", choices=("auto", "bf16", "fp16", "off"),
        help="autocast (default auto: bf16 where native, but not for volumes on a CPU; fp16, with "
        "a scaled loss, on GPUs that have only that)")
    add("--compile", action="store_true",
        help="torch.compile network and loss: pays after some minutes of training")
    add("--cuda-graph", action="store_true", help="record the training step and launch it as one, "
        "which pays where a GPU waits for its CPU: small networks and slices (not with hausdorff)")
    add("--deterministic", action="store_true", help="bit-identical runs on one kind of CUDA "
        "device, as they are on a CPU without it: slower operations there, no TF32; an operation "
        "that has no such form ends the run (not with --compile)")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--quiet", action="store_true", help="a line per epoch instead of a progress bar, "
        "as off a terminal")


# Checks -------------------------------------------------------------------------------------------

def class_or_all(text):
    """An entry of --boundary-classes."""
    try:
        return ALL if text == ALL else int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a class's number, or all, found {text!r}") from None


def take_row(args):
    """Put what --row says into --loss and the other options of the loss.

    Raises:
        ValueError: it is not a row, or one of another loss than --loss; or it changes alpha, which
            weighs two losses, but has one.
    """
    row = rows.parse(args.row) if args.row else rows.Row(args.loss or rows.BOTH)
    about_alpha = ["".join(change) for change in row.changes if rows.is_schedule(change)]
    if about_alpha and not all(parts_of(row.loss)):
        raise ValueError("row: expected a regional loss and the boundary loss beside a change of "
                         f"alpha, as in gdl+boundary-{about_alpha[0]}, found {args.row!r}")
    if args.loss not in (None, row.loss):
        raise ValueError(f"loss: expected {row.loss}, as --row says, found {args.loss}; "
                         "leave one of them out")

    args.loss, args.schedule = row.loss, row.schedule or args.schedule
    args.of_schedule = row.changed
    if row.gdl_max_weight is not None:
        args.gdl_max_weight = row.gdl_max_weight
    for option, value in map(rows.FLAGS.get, row.flags):
        if option == "loss_options":
            name = value.partition("=")[0]
            others = (word for word in args.loss_options or () if not word.startswith(f"{name}="))
            args.loss_options = [*others, value]
        else:
            setattr(args, option, value)
    del args.row


def take_schedule(args):
    """Fill in --schedule, with the floor and warm-up that --row says.

    `step_is_default` is added to the options: was nothing said of how fast alpha falls?

    Raises:
        ValueError: it is not a schedule, or one that has no such number.
    """
    args.step_is_default = args.schedule is None and args.protocol == "paper"
    own = "code2018" if args.protocol == "code2018" else scheduler.for_epochs(max(1, args.epochs))
    args.schedule = scheduler.changed(args.schedule or own, **args.of_schedule)
    del args.of_schedule


def loss_options(args):
    """--loss-options as a dict, or None if there are none.

    ["gamma=1", "weights=1,20"] -> {"gamma": 1.0, "weights": [1.0, 20.0]}

    Raises:
        ValueError: a word is not NAME=NUMBER or NAME=NUMBER,NUMBER,..., a name has two values, or
            this loss has no such option.
    """
    options = {}
    for word in args.loss_options or ():
        name = word.partition("=")[0]
        value = MEDIAN if word == f"absent_size={MEDIAN}" else numbers_of(word)
        if name in options and options[name] != value:
            raise ValueError(f"loss-options: expected each name once, found {name} twice")
        options[name] = value

    checked_options(args.loss, options)
    if args.gdl_max_weight is not None and parts_of(args.loss)[0] != "gdl":
        raise ValueError(f"gdl-max-weight: expected a loss with gdl, found {args.loss}")
    return options or None


def numbers_of(word):
    """The number or list of numbers in NAME=NUMBER or NAME=NUMBER,NUMBER,...; or ValueError."""
    name, _, text = word.partition("=")
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError("loss-options: expected NAME=NUMBER, or NAME=NUMBER,NUMBER, "
                         f"found {word!r}") from None
    return numbers if len(numbers) > 1 or name in PER_CLASS else numbers[0]


def check_size(patch):
    """ValueError unless --patch is a possible size, or not given."""
    if not patch:
        return
    try:
        check_patch(patch)
    except ValueError as error:
        raise ValueError(f"patch: expected {error}, found {patch}") from None
    if max(patch) <= LEAST:
        raise ValueError(f"--patch: expected more than {LEAST} voxels along an axis, so that the "
                         f"deepest level has two, found {patch}")


def choose_network(args, refuse):
    """Fill in --network and --dims from each other and --patch; refuse(text) if they contradict."""
    volumes = args.dims == 3 or args.patch
    args.network = args.network or ("unet3d" if volumes else "unet")
    dims = NETWORKS[args.network].dims

    if args.dims not in (None, dims):
        fitting = ", ".join(name for name, network in NETWORKS.items() if network.dims == args.dims)
        asks = "; --patch asks for it" if args.patch and args.dims == 2 else ""
        refuse(f"--network: expected one of --dims {args.dims} ({fitting}), found {args.network}, "
               f"which has {dims}{asks}")
    args.dims = dims
    if args.patch and dims == 2:
        refuse(f"--patch: expected a network of volumes, found {args.network}; "
               "leave one of them out")


def check_limits(args, refuse):
    for name, (least, most) in LIMITS.items():
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            refuse(f"--{name.replace('_', '-')}: from {least:g} to {most:g}, found {value}")
