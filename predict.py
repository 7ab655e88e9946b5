"""Segment new scans with a trained network: one mask per scan, on the scan's own grid.

Examples:
  python predict.py --checkpoint results/wmh/gdl+boundary/seed0/best.pt --out masks/ new-patients/
  python predict.py --checkpoint best.pt --out masks/ --probabilities --preview s1_FLAIR.nii.gz s1_T1.nii.gz
  python predict.py --checkpoint best.pt --describe

What a scan is: a folder in the layout the network was trained on (WMH: <scan>/pre/FLAIR.nii.gz and T1.nii.gz), found at
any depth below the folder given; or files of one scan named <scan>_<modality>.nii or .nii.gz (s1_FLAIR.nii.gz), a
folder of such files, or files named by their modality alone in the scan's folder. nnU-Net's <scan>_0000.nii.gz counts
the modalities in the network's order. With one modality any name will do. Labels are not needed and not read.

The checkpoint holds all there is to know: network and width, modalities and their order, classes, in-plane size,
normalisation, precision; of a network of volumes also the patch, and such scans are predicted by overlapping patches.
Each modality is normalised over its volume and resampled as in training; the modalities of a scan must share one grid.
A validation scan gives exactly the mask of the run's own predictions/.

Written to --out, each file whole or not at all; what is there under the same name is replaced:
  <scan>.nii.gz                  classes, 0 is background, in the grid of the scan's first modality
  probabilities/<scan>.nii.gz    with --probabilities: softmax of the foreground, 0 to 1; one volume per class if several
  previews/<scan>.png            with --preview: the slices with the largest predicted area, with its contour
One line a scan is printed: its name, the predicted volume in ml (of each class, if several), and in how many slices.

Exit status: 0, or 2 with one line that says what is wrong. If a modality is missing or there twice, nothing is segmented;
a scan that cannot be read is named, left out, and counted at the end.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import os
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from scans.checks import check_grid, check_intensities
from scans.datasets import DATASETS, find_subjects
from scans.folder import NORMALISATION, intensities
from scans.nifti import read_volume
from scans.resampling import gzipped, network_input, restore_mask
from training.best_model import AMP, load_model
from training.devices import be_deterministic, choose_amp, choose_device, choose_memory_format, logits_of
from training.inference import sliding_window
from utils import UserError, argument_parser, atomic_path, log, progress, run_program


def find_scans(places, settings):
    """{scan: {modality: [path, ...]}} of folders and files, sorted by scan; one path each when all is well.

    Args:
        places: folders or NIfTI files.
        settings: "data" of a checkpoint, with its modalities and layout.

    Raises:
        UserError: a place does not exist, holds no scan, or two scans have one name.
    """
    scans = {}
    for place in map(Path, map(os.path.abspath, places)):  # absolute: "." has a name then
        if not place.exists():
            raise UserError(place, "a scan or a folder of scans", "nothing there", "Check the path.")
        for name, files in (scans_of_folder(place, settings) if place.is_dir() else
                            scans_of_files([place], settings["modalities"])).items():
            scan = scans.setdefault(name, {modality: [] for modality in settings["modalities"]})
            for modality, paths in files.items():
                scan[modality] += [path for path in paths if path not in scan[modality]]
    return dict(sorted(scans.items()))


def scans_of_folder(folder, settings):
    """The scans at any depth in the network's own layout, or else those whose files say in their names what they are."""
    spec, duplicates = DATASETS.get(settings["layout"]), {}
    if spec:
        # no label is looked for, and a folder called test may hold what is to be segmented
        first = next(iter(spec.modalities.values()))
        spec = replace(spec, label=first, skip=tuple(name for name in spec.skip if "test" not in name))
        try:
            subjects = find_subjects(folder, spec, duplicates)
        except UserError:  # none in this layout
            subjects = []
        if duplicates:
            raise UserError(folder, "scan names that occur once", f"{next(iter(duplicates))} more than once",
                            "Rename one of the folders, or segment one folder after the other.")
        if subjects:
            return {subject.name: {name: subject.files[name] for name in spec.modalities} for subject in subjects}
    files = sorted(path for path in folder.glob("*.nii*") if path.name.endswith((".nii", ".nii.gz")))
    found = scans_of_files(files, settings["modalities"], strict=False)
    if not found:
        layout = " or ".join(filter(None, [", ".join(spec.modalities.values()) if spec else "", "files named "
                                           f"<scan>_{settings['modalities'][0]}.nii.gz"]))
        raise UserError(folder, f"scans with {layout}", "none", "Check the path and the names.")
    return found


def scans_of_files(files, modalities, strict=True):
    """{scan: {modality: [path, ...]}} from names; others are an error if `strict`, else left out."""
    endings = {**{name.lower(): name for name in modalities}, **{f"{k:04d}": name for k, name in enumerate(modalities)}}
    scans = {}
    for path in files:
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        name, modality = next(((stem[:-len(end) - 1] or path.parent.name, endings[end])
                               for end in sorted(endings, key=len, reverse=True)  # CT_CBF before CT
                               if stem.lower() == end or stem.lower().endswith((f"_{end}", f"-{end}"))), (stem, None))
        if modality is None and len(modalities) == 1:
            modality = modalities[0]
        if modality is None and strict:
            raise UserError(path, f"a name that ends with the modality ({', '.join(modalities)})", path.name,
                            f"Name it like <scan>_{modalities[0]}.nii.gz.")
        if modality is not None:
            scans.setdefault(name, {}).setdefault(modality, []).append(path)
    return scans


def check_complete(scans, modalities):
    """UserError if a scan lacks a modality or has two files of one; every such scan is printed."""
    problems = []
    for name, files in scans.items():
        missing = [modality for modality in modalities if not files[modality]]
        double = [f"{' and '.join(path.name for path in files[modality])} for {modality}" for modality in modalities
                  if len(files[modality]) > 1]
        if missing or double:
            found = "; ".join([f"no {', '.join(missing)}"] * bool(missing) + double)
            place = next(path for paths in files.values() for path in paths).parent
            do = "The network was trained on all of them." if missing else "Keep one of them there."
            problems.append(UserError(f"{name} in {place}", f"one image each of {', '.join(modalities)}", found, do))
    if len(problems) == 1:
        raise problems[0]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise UserError("the scans", f"{', '.join(modalities)} of each", f"{len(problems)} of {len(scans)} without",
                        "Put those listed above in order, or leave them out; nothing was segmented.")


def read_scan(files, modalities):
    """The volumes of a scan in the network's order, (X, Y, Z) in RAS+, and the grid of its first file as a dict."""
    volumes, images = [], []
    for modality in modalities:
        path = files[modality][0]
        voxels, image = read_volume(path)
        check_intensities(path, voxels)
        if images:
            check_grid(path, image, images[0], f"the {modalities[0]} image")
        volumes.append(voxels)
        images.append(image)
    stored = nib.load(files[modalities[0]][0])
    return volumes, {"affine": stored.affine.tolist(), "original_shape": list(stored.shape[:3]),
                     "spacing_mm": nib.affines.voxel_sizes(images[0].affine)}


@torch.inference_mode()
def segment(network, slices, batch_size, device, amp, patch=None):
    """Slices (S, C, H, W) uint16 -> classes (S, H, W) uint8 and softmax (S, K, H, W) float32, as in training.

    Of a network of volumes `patch` is what it was trained on.
    """
    if patch:
        volume = torch.from_numpy(intensities(slices)).movedim(1, 0).to(device)    # (C, S, H, W)
        parts = [sliding_window(lambda images: logits_of(network, images, amp), volume, patch).movedim(1, 0)]
    else:
        parts = (logits_of(network, torch.from_numpy(intensities(slices[start:start + batch_size])).to(device), amp)
                 for start in range(0, len(slices), batch_size))
    masks, probabilities = [], []
    for logits in parts:                                                           # (B, K, H, W)
        masks.append(logits.argmax(1).to(torch.uint8).cpu())
        probabilities.append(logits.float().softmax(1).cpu())
    return torch.cat(masks).numpy(), torch.cat(probabilities).numpy()


def write_image(path, image):
    with atomic_path(path) as partial:
        partial.write_bytes(gzipped(image))


def predict_scan(name, files, model, args):
    """Segment one scan and write what was asked for; returns its line: name, ml, slices."""
    network, state, device, amp = model
    volumes, grid = read_scan(files, state["data"]["modalities"])
    slices = network_input(volumes, state["data"]["size"])                         # (S, C, H, W) uint16
    mask, probabilities = segment(network, slices, args.batch_size, device, amp, state.get("patch"))
    image = restore_mask(mask, grid["affine"], grid["original_shape"])
    if args.probabilities:
        parts = [restore_mask(np.ascontiguousarray(channel), grid["affine"], grid["original_shape"])
                 for channel in np.moveaxis(probabilities, 1, 0)[1:]]
        whole = parts[0] if len(parts) == 1 else nib.Nifti1Image(np.stack([p.dataobj for p in parts], -1), image.affine)
        write_image(args.out / "probabilities" / f"{name}.nii.gz", whole)
    classes = state["data"]["classes"][1:]
    if args.preview:
        from reporting.preview import draw_preview  # needs matplotlib, which plain prediction does not
        step = [size * length / slices.shape[-1] for size, length in zip(grid["spacing_mm"], volumes[0].shape[:2])]
        draw_preview(args.out / "previews" / f"{name}.png", name, slices[:, 0], mask, step, classes)
    write_image(args.out / f"{name}.nii.gz", image)
    counts = np.bincount(np.asanyarray(image.dataobj).ravel(), minlength=len(classes) + 1)[1:]
    volumes = [f"{count * float(np.prod(grid['spacing_mm'])) / 1000:.2f} ml" for count in counts]
    told = volumes[0] if len(classes) == 1 else ", ".join(map(" ".join, zip(classes, volumes, strict=True)))
    return f"{name}: {told} in {int(mask.any(axis=(1, 2)).sum())} of {len(mask)} slices"


def describe(state, path):
    """What a checkpoint holds, as lines for a terminal."""
    network, channels, _, width = state["build"]
    data = state["data"]
    seen = f", patches of {'x'.join(map(str, state['patch']))}" if state.get("patch") else ""
    return "\n".join([
        f"{path}: {network} of width {width}, {channels} channels, epoch {state.get('epoch', '?')}",
        f"modalities: {', '.join(data['modalities'])}; layout {data['layout']}, trained on {data['source']} scans",
        f"classes: {', '.join(f'{k} {name}' for k, name in enumerate(data['classes']))}",
        f"in-plane size {data['size']} px{seen}; {NORMALISATION}; {state.get('amp', 'precision not noted')}"])


def main(argv=None):
    args = parse_arguments(argv)
    if args.deterministic:
        be_deterministic()
    device = choose_device(args.device)
    network, state = load_model(args.checkpoint, device)
    if args.describe:
        print(describe(state, args.checkpoint))
        return 0
    if not args.scans or not args.out:
        raise UserError("the command", "--out and at least one scan", "none", "See --help.")
    if state["data"]["source"] == "phantom":
        log(f"{args.checkpoint}: trained on a phantom; its masks show that the program works, and nothing about patients")
    amp = choose_amp(AMP.get(str(state.get("amp")), "auto") if args.amp == "auto" else args.amp, device)
    network.to(memory_format=choose_memory_format(amp, device, network.dims))
    scans = find_scans(args.scans, state["data"])
    check_complete(scans, state["data"]["modalities"])
    failed = 0
    for name, files in progress(scans.items(), total=len(scans), desc="segmenting", unit="scan"):
        try:
            log(predict_scan(name, files, (network, state, device, amp), args))
        except UserError as error:
            failed += 1
            print(f"{name} left out: {error}", file=sys.stderr)
        except torch.OutOfMemoryError:
            if patch := state.get("patch"):
                raise UserError(device, f"memory for a patch of {'x'.join(map(str, patch))}", "too little",
                                "Free some, or take --device cpu.") from None
            raise UserError(device, f"memory for {args.batch_size} slices", "too little", "Lower --batch-size.") from None
    if failed:
        raise UserError(args.out, f"{len(scans)} masks", f"{len(scans) - failed}", "The scans left out are named above.")
    return 0


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("scans", nargs="*", metavar="SCAN", help="folder of scans, or NIfTI files")
    add("--checkpoint", required=True, metavar="FILE", help="best.pt of a run of main.py")
    add("--out", type=Path, metavar="FOLDER", help="where the masks go; made if it is not there")
    add("--probabilities", action="store_true", help="write the softmax of the foreground too")
    add("--preview", action="store_true", help="write a PNG of each scan with the mask's contour too")
    add("--describe", action="store_true", help="print what the checkpoint holds, and stop")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto: a GPU if there is one)")
    add("--amp", default="auto", choices=("auto", "bf16", "off"), help="autocast (default auto: as in training)")
    add("--deterministic", action="store_true", help="the same bits every time on a CUDA device, without TF32, as main.py's")
    add("--batch-size", type=int, default=8, metavar="N", help="slices at a time, of a network of slices (default 8)")
    args = parser.parse_args(argv)
    if not 1 <= args.batch_size <= 10**5:
        parser.error(f"--batch-size: from 1 to 100000, found {args.batch_size}")
    return args


if __name__ == "__main__":
    run_program(main)
