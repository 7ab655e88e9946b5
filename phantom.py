"""Write a synthetic data set in the exact layout of the WMH 2017, ISLES 2018 or ACDC challenge, at full or demo scale.

Examples:
  python phantom.py --layout wmh --out raw/wmh_phantom
  python phantom.py --layout isles --out raw/isles_phantom --scale full --jobs 8
  python phantom.py --layout wmh --out raw/tiny --subjects 4 --size 48 --slices 6

It exists to run and test the whole chain without patient data. Numbers measured on it say nothing about patients: every
NIfTI header carries descrip = "phantom", and PHANTOM.json in the output folder lists all parameters. The head and its
lesions are in phantom_anatomy.py, the heart (three classes, two frames a patient) in phantom_heart.py; here are the
scanners, the intensities and the files.

Demo scale is small scans in seconds; full scale has the challenges' matrix sizes and spacings. Voxels depend on --seed,
the subject's place in its site, and the scale only, so more subjects or other --jobs give the same ones. The same command
continues an unfinished folder; one of other parameters is refused.

Exit status: 0, or 2 with one line that says what is wrong.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import json
import os
import shutil
import signal
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import phantom_anatomy as anatomy
import phantom_heart
from phantom_anatomy import gaussian_blob, random_voxel, smooth_field
from utils import UserError, atomic_path, log, progress, read_json, remove, run_program, write_json

DESCRIP = b"phantom"
DEFAULT_SUBJECTS = {("wmh", "demo"): 12, ("wmh", "full"): 60, ("isles", "demo"): 16, ("isles", "full"): 94,
                    ("acdc", "demo"): 10, ("acdc", "full"): 100}
MOST_SUBJECTS = {"wmh": 75, "isles": 999, "acdc": 999}  # wmh: 25 a site, then Utrecht's even numbers would reach Singapore's 50
DEMO = {"size": 96, "slices": {"wmh": 12, "isles": 8}, "slab_mm": 144.0}  # slab: what the wmh slices cover together

NOTE = ("Synthetic data, not patients. Lengths in mm, volumes in mm^3, angles in degrees; MR intensities relative to "
        "white matter = 1; CT in HU, CBF in mL/100 g/min, CBV in mL/100 g, MTT and Tmax in s; CT_4DPWI holds two time "
        "points and is not meant to be read. The tables are explained in phantom.py and phantom_anatomy.py.")


@dataclass(frozen=True)
class Site:
    """One WMH scanner. Intensities are relative to white matter = 1 unless said."""
    folder: str             # below training/
    first_id: int           # subject k of the site is first_id + k * id_step
    id_step: int
    shape: tuple            # voxels
    voxel_mm: tuple
    axis_signs: tuple       # direction of the array axes in RAS+ world space: (-1, 1, 1) is LAS
    tilt_degrees: float     # rotation of the scan about the world's x axis
    head_z_mm: float        # centre of the cerebrum above the centre of the field of view
    blur_mm: float          # in-plane standard deviation of the point-spread function
    noise: float            # standard deviation of the Rician noise
    bias: float             # standard deviation of the logarithm of the multiplicative bias field
    scale: dict             # modality -> intensity of white matter in the file's units
    contrast: dict          # modality -> intensity of each of TISSUES


SITES = (
    Site("Utrecht", 0, 2, (240, 240, 48), (0.958, 0.958, 3.0), (-1, 1, 1), 0.0, 0.0, 0.6, 0.045, 0.10,
         {"FLAIR": 420.0, "T1": 310.0},
         {"FLAIR": (0, 1.25, 0.14, 0.28, 1.22, 1.0, 1.13), "T1": (0, 1.5, 0.15, 0.32, 0.72, 1.0, 0.84)}),
    Site("Singapore", 50, 1, (232, 256, 48), (1.0, 1.0, 3.0), (-1, 1, 1), 7.0, -4.0, 0.75, 0.035, 0.07,
         {"FLAIR": 170.0, "T1": 240.0},
         {"FLAIR": (0, 1.05, 0.10, 0.20, 1.32, 1.0, 1.20), "T1": (0, 1.3, 0.12, 0.25, 0.66, 1.0, 0.80)}),
    Site("Amsterdam/GE3T", 100, 1, (132, 256, 83), (1.2, 0.977, 3.0), (1, 1, 1), 0.0, 30.0, 0.85, 0.055, 0.14,
         {"FLAIR": 1150.0, "T1": 2300.0},
         {"FLAIR": (0, 1.45, 0.18, 0.35, 1.16, 1.0, 1.08), "T1": (0, 1.7, 0.18, 0.38, 0.78, 1.0, 0.88)}),
)
ISLES = {
    "in_plane": 256, "voxel_mm": (0.8, 1.0), "slices": (2, 16), "slices_beta": (1.1, 3.2),
    "thickness_mm": (5.0, 12.0), "most_coverage_mm": 60.0, "slab_centre_mm": (-2.0, 26.0),
    "maps": {  # value of each of TISSUES in each map's units; perfusion maps are 0 outside the brain
        "CT": (-1000, 10, 900, 7, 38, 30, 37),         # HU
        "CT_CBF": (0, 0, 0, 4, 58, 24, 50),            # mL / 100 g / min
        "CT_CBV": (0, 0, 0, 0.8, 4.0, 2.1, 3.6),       # mL / 100 g
        "CT_MTT": (0, 0, 0, 3.0, 4.2, 5.2, 4.4),       # s
        "CT_Tmax": (0, 0, 0, 1.5, 1.2, 2.2, 1.4)},     # s
    "noise": {"CT": 5.0, "CT_CBF": 9.0, "CT_CBV": 0.6, "CT_MTT": 0.9, "CT_Tmax": 0.9},  # std, same units
    "noise_blur_mm": {"CT": 0.5, "CT_CBF": 1.6, "CT_CBV": 1.6, "CT_MTT": 1.6, "CT_Tmax": 1.6},
    "signal_blur_mm": {"CT": 0.6, "CT_CBF": 2.0, "CT_CBV": 2.0, "CT_MTT": 2.0, "CT_Tmax": 2.0},
    # (lowest, highest) per scan: CBF and CBV are multiplied, the others are raised by so much
    "deficit": {"CT": (0, 0), "CT_CBF": (0.45, 0.75), "CT_CBV": (0.9, 1.15), "CT_MTT": (2.5, 6), "CT_Tmax": (3.5, 9)},
    "core": {"CT": (-7, -2), "CT_CBF": (0.15, 0.45), "CT_CBV": (0.3, 0.65), "CT_MTT": (0, 4), "CT_Tmax": (0, 4)},
    "chronic": {"CT": (-6, -3), "CT_CBF": (0.4, 0.7), "CT_CBV": (0.5, 0.8), "CT_MTT": (0, 1.5), "CT_Tmax": (0, 1.5)},
    "chronic_probability": 0.5, "chronic_width_mm": (5.0, 12.0),  # unlabelled old damage, perfusion delay normal
    "gain": (0.75, 1.3), "vessels": (6, 14), "vessel_width_mm": 2.5, "vessel_height": 1.2,  # CBF and CBV, relative
    "contrast_agent_HU": 6.0,  # enhancement at the second of the two time points of CT_4DPWI, per mL / 100 g of CBV
}


def wmh_name(k):
    """Subject k of the whole set -> (Site, its place in the site, path of its folder below the output folder)."""
    site, place = SITES[k % 3], k // 3
    return site, place, Path("training") / site.folder / str(site.first_id + place * site.id_step)


def isles_name(k):
    """Subject k -> path of its folder below the output folder."""
    return Path("TRAINING") / f"case_{k + 1}"


def scan_axes(shape, voxel_mm, signs, head_z_mm):
    """Head-fixed mm of the voxel centres along each array axis: (X,), (Y,), (Z,)."""
    axes = [sign * (np.arange(n) - (n - 1) / 2) * v for n, v, sign in zip(shape, voxel_mm, signs)]
    axes[2] = axes[2] - head_z_mm
    return axes


def scan_affine(rng, shape, voxel_mm, signs, tilt_degrees):
    """Voxel index -> world mm (RAS+), 4x4; the world's origin lies within 10 mm of the scan's centre."""
    c, s = np.cos(np.radians(tilt_degrees)), np.sin(np.radians(tilt_degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag(np.multiply(signs, voxel_mm))
    affine[:3, 3] = rng.uniform(-10, 10, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def wmh_grid(site, size, slices):
    """(shape, voxel_mm) of a site: its own, or at demo scale `size` px in plane, `slices` over DEMO["slab_mm"]."""
    if size is None:
        return site.shape, site.voxel_mm
    shrink = size / max(site.shape[:2])
    shape = (round(site.shape[0] * shrink), round(site.shape[1] * shrink), slices)
    field = np.multiply(site.shape, site.voxel_mm)
    return shape, (float(field[0] / shape[0]), float(field[1] / shape[1]), DEMO["slab_mm"] / slices)


def mr_image(rng, site, modality, tissue, extra, axes, voxel_mm):
    """Blur, bias field, Rician noise and the site's intensity scale; whole numbers in float32, as scanners store."""
    clean = sum(level * tissue[name] for name, level in zip(anatomy.TISSUES, site.contrast[modality]) if level) + extra
    clean = ndimage.gaussian_filter(np.maximum(clean, 0), [site.blur_mm / v for v in voxel_mm[:2]] + [0], truncate=2.5)
    clean = clean * np.exp(site.bias * smooth_field(rng, axes, 90))
    real, imaginary = (site.noise * rng.standard_normal(clean.shape, dtype=np.float32) for _ in range(2))
    gain = site.scale[modality] * rng.uniform(0.85, 1.15)
    return np.rint(gain * np.hypot(clean + real, imaginary)).astype(np.float32)


def wmh_subject(seed, k, size=None, slices=None):
    """One WMH scan: dict of FLAIR, T1 (float32) and label (uint8), all (X, Y, Z), brain (bool) and the affine."""
    site, place, _ = wmh_name(k)
    rng = np.random.default_rng([seed, 1, k % 3, place])
    shape, voxel_mm = wmh_grid(site, size, slices)
    head_z_mm = site.head_z_mm if size is None else 0.0  # the demo slab is cut to the head
    axes = scan_axes(shape, voxel_mm, site.axis_signs, head_z_mm)
    affine = scan_affine(rng, shape, voxel_mm, site.axis_signs, site.tilt_degrees)
    head = anatomy.build_head(rng, axes)
    label, flair, t1 = anatomy.wmh_lesions(rng, head, axes)
    flair += anatomy.flair_distractors(rng, head, axes) * (label == 0)
    return {"FLAIR": mr_image(rng, site, "FLAIR", head.tissue, flair, axes, voxel_mm),
            "T1": mr_image(rng, site, "T1", head.tissue, t1, axes, voxel_mm),
            "label": label, "brain": head.brain, "affine": affine}


def isles_grid(rng, size, slices):
    """Draw (shape, voxel_mm, height of the slab's centre above the cerebrum's, mm) of one case."""
    fewest, most = ISLES["slices"][0], ISLES["slices"][1] if slices is None else slices
    count = fewest + round((most - fewest) * rng.beta(*ISLES["slices_beta"]))
    in_plane = ISLES["in_plane"] if size is None else size
    pixel = rng.uniform(*ISLES["voxel_mm"]) * ISLES["in_plane"] / in_plane
    low, high = ISLES["thickness_mm"]
    thickness = rng.uniform(low, min(high, max(low, ISLES["most_coverage_mm"] / count)))
    return (in_plane, in_plane, count), (pixel, pixel, thickness), rng.uniform(*ISLES["slab_centre_mm"])


def soften(array, sigma_mm, voxel_mm):
    """In-plane Gaussian blur; slices are too thick to share signal."""
    sigma = [sigma_mm / voxel_mm[0], sigma_mm / voxel_mm[1], 0]
    return ndimage.gaussian_filter(np.asarray(array, np.float32), sigma, truncate=2.5)


def ct_map(rng, name, head, severity, vessels, axes, voxel_mm):
    """One CT or perfusion map in its own units, float32 (X, Y, Z).

    Args: severity: region of ISLES ("deficit", "core", "chronic") -> softened mask in [0, 1].
    """
    scan = sum(np.float32(level) * head.tissue[tissue] for tissue, level in zip(anatomy.TISSUES, ISLES["maps"][name]))
    multiplied = name in ("CT_CBF", "CT_CBV")
    scan = scan * (1 + 0.08 * smooth_field(rng, axes, 18)) if name != "CT" else scan
    for region in ("chronic", "deficit", "core"):
        change = rng.uniform(*ISLES[region][name])
        weight = severity[region] * (1 - severity["core"] if region == "deficit" and multiplied else 1)
        scan = scan * (1 + (change - 1) * weight) if multiplied else scan + change * weight
    if multiplied:
        scan = scan * (1 + ISLES["vessel_height"] * vessels) * rng.uniform(*ISLES["gain"])
    scan = soften(scan, ISLES["signal_blur_mm"][name], voxel_mm)
    noise = soften(rng.standard_normal(scan.shape, dtype=np.float32), ISLES["noise_blur_mm"][name], voxel_mm)
    noise *= ISLES["noise"][name] / noise.std()
    if name == "CT":
        return scan + noise
    if name in ("CT_MTT", "CT_Tmax"):  # delays are ill-defined where little blood flows
        noise = noise * (1 + 3 * head.tissue["csf"])
    within = head.tissue["air"] + head.tissue["scalp"] + head.tissue["skull"] < 0.5
    return np.where(within, np.maximum(scan + noise, 0), 0).astype(np.float32)


def isles_subject(seed, k, size=None, slices=None):
    """One ISLES case: dict of the five maps, CT_4DPWI and label (the core), plus brain, deficit (bool), affine."""
    rng = np.random.default_rng([seed, 2, k])
    shape, voxel_mm, head_z = isles_grid(rng, size, slices)
    axes = scan_axes(shape, voxel_mm, (-1, 1, 1), -head_z)
    affine = scan_affine(rng, shape, voxel_mm, (-1, 1, 1), 0.0)
    head = anatomy.build_head(rng, axes)
    deficit, core = anatomy.stroke_lesion(rng, head, axes)
    chronic = np.zeros(shape, np.float32)
    if rng.random() < ISLES["chronic_probability"]:
        centre = random_voxel(rng, (head.tissue["wm"] > 0.8) & (head.ventricle_distance < 15), head.brain)
        chronic = gaussian_blob(axes, centre, rng.uniform(*ISLES["chronic_width_mm"])) * (1 - head.tissue["csf"])
    severity = {"deficit": soften(deficit, 4.0, voxel_mm), "core": soften(core, 2.0, voxel_mm), "chronic": chronic}
    vessels = np.zeros(shape, np.float32)
    for _ in range(rng.integers(*ISLES["vessels"])):
        centre = random_voxel(rng, (head.tissue["gm"] > 0.7), head.brain)
        vessels += gaussian_blob(axes, centre, ISLES["vessel_width_mm"])
    scan = {name: ct_map(rng, name, head, severity, vessels, axes, voxel_mm) for name in ISLES["maps"]}
    scan["CT"] = np.rint(np.clip(scan["CT"], -1024, 3071)).astype(np.int16)
    peak = scan["CT"] + ISLES["contrast_agent_HU"] * scan["CT_CBV"]
    scan["CT_4DPWI"] = np.stack([scan["CT"].astype(np.float32), peak.astype(np.float32)], axis=-1)  # (X, Y, Z, 2)
    return scan | {"label": core.astype(np.uint8), "brain": head.brain, "deficit": deficit, "affine": affine}


def save_nifti(path, array, affine):
    """Write one NIfTI marked as phantom, both its orientation codes "scanner", lengths in mm."""
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = DESCRIP
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_wmh(folder, scan):
    save_nifti(folder / "wmh.nii.gz", scan["label"], scan["affine"])
    for modality in ("FLAIR", "T1"):
        processed, original = folder / "pre" / f"{modality}.nii.gz", folder / "orig" / f"{modality}.nii.gz"
        save_nifti(processed, scan[modality], scan["affine"])
        original.parent.mkdir(exist_ok=True)
        try:
            os.link(processed, original)  # the challenge's orig/ is the scan before bias correction; here the same file
        except OSError:  # a file system without hard links
            shutil.copyfile(processed, original)


def write_isles(folder, scan, k):
    """Each map in its SMIR folder. The numbers in the names only need to be unique, as in the challenge."""
    names = ("CT", "CT_4DPWI", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "OT")
    for place, name in enumerate(names):
        stem = f"SMIR.Brain.XX.O.{name}.{300000 + 10 * k + place}"
        save_nifti(folder / stem / f"{stem}.nii", scan["label" if name == "OT" else name], scan["affine"])


def write_acdc(folder, patient):
    """Two frames with their labels, and which they are; the challenge's 4-D series of all frames is left out."""
    for number, (image, label) in patient["frames"].items():
        stem = f"{folder.name.split('.')[0]}_frame{number:02d}"
        save_nifti(folder / f"{stem}.nii.gz", image, patient["affine"])
        save_nifti(folder / f"{stem}_gt.nii.gz", label, patient["affine"])
    (folder / "Info.cfg").write_text(f"ED: 1\nES: {patient['es']}\n")


def subject_path(layout, k):
    """Path of subject k's folder below the output folder."""
    return {"wmh": lambda: wmh_name(k)[2], "isles": lambda: isles_name(k),
            "acdc": lambda: Path("training") / f"patient{k + 1:03d}"}[layout]()


def write_subject(out, layout, seed, k, size, slices):
    """Make subject k and put its folder in place, whole or not at all."""
    with atomic_path(out / subject_path(layout, k)) as folder:
        if layout == "wmh":
            write_wmh(folder, wmh_subject(seed, k, size, slices))
        elif layout == "isles":
            write_isles(folder, isles_subject(seed, k, size, slices), k)
        else:
            write_acdc(folder, phantom_heart.heart_patient(seed, k, size, slices))


def parameters(args):
    """Everything the voxels depend on, as JSON values; written to PHANTOM.json."""
    tables = {"tissues": anatomy.TISSUES, "head": anatomy.HEAD, "ventricles": anatomy.VENTRICLES, "nuclei": anatomy.NUCLEI}
    if args.layout == "acdc":
        tables = {"heart": phantom_heart.HEART}
    elif args.layout == "wmh":
        tables |= {"wmh": anatomy.WMH, "distractors": anatomy.DISTRACTORS, "sites": [asdict(site) for site in SITES]}
    else:
        tables |= {"stroke": anatomy.STROKE, "isles": ISLES}
    value = {
        "note": NOTE,
        "layout": args.layout, "scale": args.scale, "subjects": args.subjects, "seed": args.seed,
        "size": args.size, "slices": args.slices, "demo": DEMO, **tables}
    return json.loads(json.dumps(value))


def check_options(args):
    """Fill in the defaults that depend on other options; UserError for a value out of range."""
    if args.scale == "full" and (args.size or args.slices):
        raise UserError("--size/--slices", "neither with --scale full", "one", "Use --scale demo, or leave them out.")
    if args.scale == "demo":
        args.size = DEMO["size"] if args.size is None else args.size
        args.slices = DEMO["slices"].get(args.layout, 8) if args.slices is None else args.slices
    if args.subjects is None:
        args.subjects = DEFAULT_SUBJECTS[args.layout, args.scale]
    limits = {"subjects": (1, MOST_SUBJECTS[args.layout]), "size": (32, 512), "slices": (2, 64), "jobs": (1, 256),
              "seed": (0, 2**32 - 1)}
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name}", f"a number from {low} to {high}", value, "Choose another.")


def prepare_folder(out, wanted):
    """Make `out` ready: new, or a phantom of the same parameters; anything else is refused, real data above all."""
    record, elsewhere = out / "PHANTOM.json", "Choose another --out, or delete that folder."
    if record.exists():
        found = read_json(record, elsewhere)
        if not isinstance(found, dict):
            raise UserError(record, "the parameters of a phantom", type(found).__name__, elsewhere)
        for name, value in wanted.items():
            if found.get(name) != value:
                raise UserError(record, f"{name} = {brief(value)}", brief(found.get(name)), elsewhere)
    elif out.exists() and any(".partial-" not in path.name for path in out.iterdir()):
        raise UserError(out, "an empty folder or a phantom", "other files", elsewhere)
    else:
        write_json(record, wanted)
    for leftover in list(out.rglob("*.partial-*")):  # of a run that was killed
        remove(leftover)


def brief(value):
    """A JSON value for an error of one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:50] + " ..."


def ignore_interrupts():
    """In a worker: Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_all(tasks, jobs):
    """Run write_subject over the tasks, `jobs` at a time; a failing subject stops the rest and its error is raised."""
    if not tasks:
        return
    if jobs == 1 or len(tasks) == 1:
        for task in progress(tasks, desc="phantom", unit="scan"):
            write_subject(*task)
        return
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), ignore_interrupts)
    try:
        done = [pool.submit(write_subject, *task) for task in tasks]
        for future in progress(as_completed(done), desc="phantom", unit="scan", total=len(done)):
            future.result()
    except BrokenExecutor:
        raise UserError("--jobs", f"memory for {jobs} processes", "one was killed", "Repeat with --jobs 1.") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--layout", required=True, choices=MOST_SUBJECTS,
        help="FLAIR and T1, CT with four perfusion maps, or cine MRI of the heart")
    add("--out", required=True, type=Path, metavar="FOLDER", help="folder to write; a second run continues it")
    add("--subjects", type=int, metavar="N", help="scans, of acdc patients with two each (default: wmh 12, at full scale 60; "
        "isles 16 and 94; acdc 10 and 100)")
    add("--scale", default="demo", choices=("demo", "full"), help="small scans, or the challenge's sizes (default demo)")
    add("--size", type=int, metavar="PX", help="demo scale: longer in-plane side (default 96)")
    add("--slices", type=int, metavar="N", help="demo scale: slices of wmh (default 12) and acdc (8); most of isles (8)")
    add("--seed", type=int, default=0, metavar="K", help="fixes every voxel (default 0)")
    add("--jobs", type=int, default=2, metavar="N", help="processes, a scan each (default 2)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    check_options(args)
    prepare_folder(args.out, parameters(args))
    missing = [k for k in range(args.subjects) if not (args.out / subject_path(args.layout, k)).exists()]
    write_all([(args.out, args.layout, args.seed, k, args.size, args.slices) for k in missing], args.jobs)
    log(f"{args.out}: {args.subjects} {args.layout} phantom scans ({len(missing)} new)")
    return 0


if __name__ == "__main__":
    run_program(main)
