"""Words for what files call by short names: settings, scores, times, numbers."""

from scoring.run_files import SCORES

SETTINGS = {  # entries of config.json
    "amp": "precision", "augment": "augmentation", "batch_size": "batch size",
    "boundary_classes": "classes of the boundary loss", "commit": "commit of the code",
    "compile": "compiled network",
    "data": "data folder", "data_fingerprint": "fingerprint of the data",
    "deterministic": "deterministic operations", "dims": "dimensions", "folds": "folds",
    "gdl_max_weight": "cap of the GDL's class weight", "lesion_slices": "lesion slices only",
    "lr_schedule": "schedule of the learning rate",
    "loss_options": "options of the regional loss", "lr": "learning rate at the start",
    "patch": "patch", "schedule": "schedule of alpha", "score": "best epoch chosen by",
    "size": "size of a slice (px)", "threads": "CPU threads",
    "width": "channels at full resolution",
}
EVALUATED = {  # columns of evaluation.csv that the page shows, and their digits
    "dice": ("DSC", 3), "precision": ("precision of voxels", 3), "recall": ("recall of voxels", 3),
    "hd": ("HD (mm)", 1), "hd95": ("HD95 (mm)", 1),
    "hd95_directed": ("HD95, larger of the two directions (mm)", 1),
    "hd95_challenge": ("HD95 by the WMH challenge's rule (mm)", 1),
    "assd": ("average surface distance (mm)", 1), "surface_dice": ("surface DSC", 3),
    "lesion_recall": ("lesion recall", 3), "lesion_precision": ("lesion precision", 3),
    "lesion_f1": ("lesion F1", 3), "panoptic_quality": ("panoptic quality", 3),
    "lesion_count_difference": ("difference in the number of lesions", 1),
    "volume_difference": ("difference in volume (%)", 1),
    "volume_difference_ml": ("difference in volume (ml)", 2),
}


def setting_name(key):
    """An entry of config.json by name."""
    return SETTINGS.get(key, key.replace("_", " "))


def setting_value(value):
    """An entry's value in words: numbers rounded, lists joined."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return ", ".join(f"{setting_name(key)} {setting_value(item)}"
                         for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_value, value))
    return SCORES.get(value, str(value))


def maps_in_words(distance):
    """How the distance maps were made: "in px, a map for each slice, ..."."""
    return ", ".join([
        f"in {distance.unit}",
        "a map for each slice" if distance.dims == 2 else "one of the volume",
        "0 on the lesion's boundary" if distance.convention == "paper" else
        f"inside the lesion as the {distance.convention} code has it",
        *["cut to whole numbers"] * distance.truncate])


def rounded(value):
    """A number with four digits: 142.88406372070312 -> 142.9, 255.0 -> 255, 0.001 -> 0.001."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def duration(seconds):
    """0.4 s, 12 s, 3 min 05 s, 2 h 07 min; "not recorded" for None."""
    if seconds is None:
        return "not recorded"
    if seconds < 10:
        return f"{seconds:.1f} s"

    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
