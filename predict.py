"""Segment new scans with a trained network: one mask per scan, on the scan's own grid.

Examples:
  python predict.py --checkpoint results/wmh/gdl+boundary/seed0/best.pt --out masks/ new-patients/
  python predict.py --checkpoint best.pt --out masks/ --preview s1_FLAIR.nii.gz s1_T1.nii.gz
  python predict.py --checkpoint best.pt --out masks/ --resume new-patients/
  python predict.py --checkpoint seed0/best.pt seed1/best.pt --mirror --restore softmax \\
      --out masks/ new-patients/
  python predict.py --checkpoint best.pt --describe

What a scan is: a folder in the layout the network was trained on (WMH: <scan>/pre/FLAIR.nii.gz and
T1.nii.gz), found at any depth below the folder given; or files of one scan named
<scan>_<modality>.nii or .nii.gz (s1_FLAIR.nii.gz), a folder of such files, or files named by their
modality alone in the scan's folder. nnU-Net's <scan>_0000.nii.gz counts the modalities in the
network's order. With one modality any name will do; in a folder where some names
end with it, those alone are scans. Labels are not needed and not read.

The checkpoint holds all that is needed: network and width, modalities and their order, classes,
in-plane size, normalisation, precision; of a network of volumes also the patch, and such scans are
predicted by overlapping patches. Each modality is normalised over its volume and resampled as in
training; the modalities of a scan must share one grid. A validation scan gives exactly the mask of
the run's own predictions/, in the same precision: where the device has no fast bfloat16 or float16,
float32 is taken, and a line says so.

Of several checkpoints (words that end in .pt) the mean of their softmax counts, with --mirror the
mean over each image and its mirror images too. They must have been trained on the same modalities,
classes, size and normalisation. Masks come back to the scan's own grid by the nearest pixel, as
those that are validated do; with --restore softmax the softmax is interpolated there first, which
gives smooth outlines where the scan has the finer grid. What these three give was not validated.

Written to --out, each file whole or not at all; what this program wrote before is replaced, masks
that were changed since, and other files of the same name, are refused:
  <scan>.nii.gz                  classes, 0 is background, in the grid of the scan's first modality
  probabilities/<scan>.nii.gz    with --probabilities: softmax of the foreground, 0 to 1; one volume
                                 per class if there are several
  previews/<scan>.png            with --preview: the slices with the largest predicted area, and its
                                 contour
A mask's header and a preview's name the checkpoints, and the way, they were made with. With
--resume a scan is left out if all its outputs are there, made just so and newer than the scan: a
program that was stopped continues where it was.

A line is printed for each scan: its name, the predicted volume in ml (of each class, if there are
several), and in how many slices.

Exit status: 0, or 2 with one line that says what is wrong. If a modality is missing or there twice,
nothing is segmented; a scan that cannot be read is named, left out, and counted at the end.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("predict")

import os
import sys
from argparse import Action
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch

from scans.checks import is_cut_across, warn_of_cuts
from scans.folder import NORMALISATIONS
from scans.geometry import BY_PREDICT, image_like, to_ras
from scans.inputs import (
    PRECISIONS,
    by_models,
    is_described_as,
    is_unchanged,
    is_written_by,
    note_sizes,
    refuse_inputs,
)
from scans.resampling import gzipped, moments, network_input, restore_array, restore_softmax
from scans.unlabelled import check_complete, find_scans, read_scan
from training.best_model import AMP
from training.devices import (
    amp_name,
    be_deterministic,
    choose_amp,
    choose_device,
    choose_memory_format,
    is_native,
    named_amp,
)
from training.ensemble import load_members, segment
from training.volumes_in_bfloat16 import amp_of_volumes
from utils import UserError, argument_parser, atomic_path, log, progress


class Model(NamedTuple):
    """What segments: one trained network, or the mean of several."""

    members: list    # of ensemble.Member
    device: torch.device
    written_by: str  # the description in the headers of its masks

    @property
    def data(self):
        """The scans.folder.Dataset of what they were trained on."""
        return self.members[0].trained.data


def main(argv=None):
    """Parse the command line and segment every scan; returns the exit status."""
    args = parse_arguments(argv)
    if args.deterministic:
        be_deterministic()
    device = torch.device("cpu") if args.describe else choose_device(args.device)

    # the checkpoints
    members = load_members(args.checkpoint, device)
    if args.describe:
        print("\n".join(describe(member.trained, path)
                        for path, member in zip(args.checkpoint, members, strict=True)))
        return 0
    if not args.scans or not args.out:
        raise UserError("the command", "--out and at least one scan", "none", "See --help.")
    model = prepared(members, device, args)

    # the scans, all of them complete before the first one is segmented
    scans = find_scans(args.scans, model.data, args.out)
    check_complete(scans, model.data.modalities)
    refuse_to_overwrite(scans, args)
    note_headers(scans)
    if args.resume:
        scans = left_to_do(scans, model, args)

    left_out = 0
    for name, files in progress(scans.items(), total=len(scans), desc="segmenting", unit="scan"):
        try:
            log(predict_scan(name, files, model, args))
        except UserError as error:
            left_out += 1
            print(f"{name} left out: {error}", file=sys.stderr)
        except torch.OutOfMemoryError:
            raise too_little_memory(model, args.batch_size) from None
    if left_out:
        raise UserError(args.out, f"{len(scans)} masks", f"{len(scans) - left_out}",
                        "The scans left out are named above.")
    return 0


def prepared(members, device, args):
    """The Model of these Members, each in its precision."""
    ready = []
    for path, member in zip(args.checkpoint, members, strict=True):
        if member.trained.data.source == "phantom":
            log(f"{path}: trained on a phantom; its masks show that the program works, and "
                "nothing about patients")
        amp = precision(path, args, member.trained, device)
        network = member.network
        network.to(memory_format=choose_memory_format(amp, device, network.dims))
        ready.append(member._replace(amp=amp))

    how = ["mirrored"] * args.mirror + ["softmax"] * (args.restore == "softmax")
    others = {amp_name(member.amp) for member in ready
              if member.trained.amp not in (None, amp_name(member.amp))}
    if others:  # than the training's
        how.append("mixed" if len(others) > 1 else PRECISIONS[others.pop()])
    return Model(ready, device, by_models(args.checkpoint, *how))


def precision(path, args, trained, device):
    """The autocast dtype: what --amp says or, by itself, the one of the training.

    Where the device would only emulate that one, which takes several times as long, it is float32.
    """
    if args.amp != "auto" or trained.amp not in AMP:
        if trained.patch:
            return amp_of_volumes(args.amp, device, trained.build, trained.patch)
        return choose_amp(args.amp, device)

    amp = named_amp(trained.amp)
    fast = is_native(amp, device) and not (amp and trained.patch and device.type == "cpu")
    if not fast:
        log(f"{path}: trained in {trained.amp}, predicted in float32, since this device "
            f"has no fast {trained.amp}: a few pixels may differ from the run's own masks "
            f"(--amp {AMP[trained.amp]} takes it all the same)")
    return amp if fast else None


def note_headers(scans):
    """Say what a person should know of the scans' voxel sizes."""
    images = note_sizes(paths[0] for files in scans.values() for paths in files.values())
    first = {name: next(iter(files.values()))[0] for name, files in scans.items()}
    warn_of_cuts([name for name, path in first.items()
                  if path in images and is_cut_across(images[path])], len(scans))


def predict_scan(name, files, model, args):
    """Segment one scan and write what was asked for; returns the line that is printed about it."""
    data = model.data
    volumes, image = read_scan(files, data.modalities)
    slices = network_input(volumes, data.size, data.fill, data.normalise)  # (S, C, H, W) uint16
    scales = np.array(list(map(moments, volumes))) if data.normalise == "zscore" else None
    mask, softmax = segment(model.members, model.device, slices, scales, args.batch_size,
                            args.mirror)

    # back to the scan's own grid; the mask is written last, when the rest of the scan is there
    voxels, soft = restored(mask, softmax, image, data.fill, args)
    classes, spacing = data.classes[1:], nib.affines.voxel_sizes(image.affine)
    if args.probabilities:
        write_image(args.out / "probabilities" / f"{name}.nii.gz",
                    soft, image, model.written_by)
    if args.preview:
        from reporting.preview import draw_preview  # matplotlib takes long to import
        sides = volumes[0].shape[:2]
        step = [size * length / (data.fill or data.size) for size, length in zip(spacing, sides)]
        draw_preview(args.out / "previews" / f"{name}.png", name, slices[:, 0], mask, step, classes,
                     model.written_by)
    write_image(args.out / f"{name}.nii.gz", voxels, image, model.written_by)

    found = int(to_ras(voxels, image.turns).any(axis=(0, 1)).sum())
    return f"{name}: {volumes_in_words(voxels, spacing, classes)} in {found} of {len(mask)} slices"


def restored(mask, softmax, image, fill, args):
    """What was found, on the scan's own grid: classes, and with --probabilities the foreground's.

    Args:
        mask, softmax: (S, H, W) uint8 and (S, K, H, W) float32 on the network's grid.
        image: the nifti.Image of the scan.
        fill: see resampling.inside.

    Returns:
        (uint8 of the scan's shape, float32 of it, with a last axis of several classes; or None).
    """
    place = image.stored_affine, image.stored_shape, fill
    if args.restore == "softmax":
        soft = restore_softmax(softmax, *place)                       # (K, *shape)
        voxels = soft.argmax(0).astype(np.uint8)
    else:
        voxels = restore_array(mask, *place)
        soft = [restore_array(np.ascontiguousarray(channel), *place)
                for channel in np.moveaxis(softmax, 1, 0)] if args.probabilities else None

    if not args.probabilities:
        return voxels, None
    return voxels, soft[1] if len(soft) == 2 else np.stack(soft[1:], -1)


def volumes_in_words(voxels, spacing, classes):
    """"1.20 ml" of a mask with one foreground class, else "myocardium 1.20 ml, ..."."""
    counts = np.bincount(voxels.ravel(), minlength=len(classes) + 1)[1:]
    voxel = float(np.prod(spacing)) / 1000  # ml
    volumes = [f"{count * voxel:.2f} ml" for count in counts]
    if len(classes) == 1:
        return volumes[0]
    return ", ".join(map(" ".join, zip(classes, volumes, strict=True)))


def write_image(path, voxels, image, written_by):
    """Write voxels with the header of the scan, a nifti.Image, in all that says where it lies."""
    with atomic_path(path) as partial:
        partial.write_bytes(gzipped(image_like(voxels, image.geometry, written_by)))


# What is there already ----------------------------------------------------------------------------

def left_to_do(scans, model, args):
    """Those of `scans` whose outputs, made just so, are not all there, newer than the scan."""
    def is_done(name, files):
        outputs = outputs_of(name, args)
        newest = max(os.path.getmtime(paths[0]) for paths in files.values())
        return all(path.is_file() and path.stat().st_mtime > newest
                   and is_described_as(path, model.written_by) for path in outputs)

    left = {name: files for name, files in scans.items() if not is_done(name, files)}
    if len(left) < len(scans):
        log(f"{args.out}: {len(scans) - len(left)} of {len(scans)} masks are there")
    return left


def outputs_of(name, args):
    """The files that are written for a scan."""
    return [args.out / f"{name}.nii.gz",
            *[args.out / "probabilities" / f"{name}.nii.gz"] * args.probabilities,
            *[args.out / "previews" / f"{name}.png"] * args.preview]


def refuse_to_overwrite(scans, args):
    """UserError if an output would take the place of a scan, of somebody else's file, or of a mask
    that somebody has corrected since."""
    outputs = [path for name in scans for path in outputs_of(name, args)]
    refuse_inputs(outputs,
                  [*args.checkpoint, *(path for files in scans.values() for paths in files.values()
                                      for path in paths)],
                  lambda path: is_written_by(path, BY_PREDICT))
    for path in outputs:
        is_full = path.is_file() and path.stat().st_size > 0
        if is_full and path.suffix != ".png" and not is_unchanged(path):
            raise UserError(path, "a mask as this program wrote it", "one that was changed since",
                            "Choose another --out, or remove that file.")


def too_little_memory(model, batch_size):
    """The UserError for a device whose memory did not suffice."""
    patches = [member.trained.patch for member in model.members if member.trained.patch]
    if patches:
        return UserError(model.device, f"memory for a patch of {'x'.join(map(str, patches[0]))}",
                         "too little", "Free some, or take --device cpu.")
    return UserError(model.device, f"memory for {batch_size} slices", "too little",
                     "Lower --batch-size.")


def describe(trained, path):
    """What a checkpoint holds, a BestModel, as lines for a terminal."""
    network, channels, _, width = trained.build
    data, patch = trained.data, trained.patch
    patches = f", patches of {'x'.join(map(str, patch))}" if patch else ""
    filled = f", the scan in the middle {data.fill}" if data.fill else ""
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(data.classes))
    return "\n".join([
        f"{path}: {network} of width {width}, {channels} channels, "
        f"epoch {trained.get('epoch', '?')}",
        f"modalities: {', '.join(data.modalities)}; layout {data.layout}, "
        f"trained on {data.source} scans",
        f"classes: {classes}",
        f"in-plane size {data.size} px{filled}{patches}; "
        f"{NORMALISATIONS[data.normalise]}; "
        f"{trained.get('amp', 'precision not noted')}"])


class Checkpoints(Action):
    """--checkpoint: the first word, and those after it that end in .pt; any others are scans."""

    def __call__(self, parser, namespace, values, option_string=None):
        count = next((index for index, word in enumerate(values) if index and
                      not word.endswith(".pt")), len(values))
        for name, words in (("checkpoint", values[:count]), ("beside", values[count:])):
            setattr(namespace, name, [*(getattr(namespace, name, None) or ()), *words])


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("scans", nargs="*", metavar="SCAN", help="folder of scans, or NIfTI files")
    add("--checkpoint", required=True, nargs="+", action=Checkpoints, metavar="FILE",
        help="best.pt of a run of main.py; of several (.pt) the mean of their softmax counts")
    add("--out", type=Path, metavar="FOLDER",
        help="where the masks go; created if it is not there")
    add("--probabilities", action="store_true", help="write the softmax of the foreground too")
    add("--preview", action="store_true",
        help="write a PNG of each scan with the mask's contour too")
    add("--restore", choices=("nearest", "softmax"), default="nearest",
        help="how a mask comes back to the scan's own grid: by the nearest pixel (default nearest, "
        "as with validation masks), or softmax: interpolated, then the most probable class")
    add("--mirror", action="store_true",
        help="the mean of the softmax over each image and its mirror images along rows, columns "
        "and both, in four times the time")
    add("--describe", action="store_true", help="print what the checkpoint holds, and stop")
    add("--resume", action="store_true",
        help="leave out scans whose outputs by these checkpoints, made in the same way, are there, "
        "newer than the scan")
    add("--device", default="auto",
        help="auto, cpu, cuda, cuda:1 (default auto: a GPU if there is one)")
    add("--amp", default="auto", choices=("auto", "bf16", "fp16", "off"),
        help="autocast (default auto: as in training, or off where the device has that only by "
        "emulation)")
    add("--deterministic", action="store_true",
        help="the same bits every time on a CUDA device, without TF32, as with main.py")
    add("--batch-size", type=int, default=8, metavar="N",
        help="slices at a time, of a network of slices (default 8)")

    args = parser.parse_args(argv)
    args.scans = [*getattr(args, "beside", ()), *args.scans]
    if not 1 <= args.batch_size <= 10**5:
        parser.error(f"--batch-size: from 1 to 100000, found {args.batch_size}")
    return args
