"""Unpacks NetCDF and Zarr variables, with NaN for the values that the attributes of the file define as missing.

The rule is the same for every format (CF conventions 1.11, sections 2.5.1 and 8.1; NetCDF attribute conventions). A
value is missing where it equals `_FillValue` or one of `missing_value`, lies outside `valid_range`, `valid_min` and
`valid_max`, or, in a NetCDF file whose variable has no `_FillValue`, equals the default fill value of its type,
which the NetCDF library leaves in cells that were not written. Packed integers are unpacked with `scale_factor`,
`add_offset` and `_Unsigned`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float64

DEFAULT_FILLS: Mapping[str, float] = {
    "i2": -32767,
    "u2": 65535,
    "i4": -2147483647,
    "u4": 4294967295,
    "i8": -9223372036854775806,
    "u8": 18446744073709551614,
    "f4": float(np.float32(9.969209968386869e36)),
    "f8": 9.969209968386869e36,
}
"""The default fill values of the NetCDF library by type; bytes have none."""


@dataclass(frozen=True)
class Unpacked:
    """Values in the unit of the variable. missing: how many values count as missing, by reason."""

    values: Float64[np.ndarray, "..."]
    missing: Mapping[str, int]


def unpack(name: str, variable: xr.Variable, *, default_fill: bool) -> Unpacked:
    """Unpacks a variable that was opened without decoding. default_fill: whether the file is a NetCDF file.

    Raises ValueError where an attribute is not a number.
    """
    packed = variable.to_numpy()
    decoded = xr.conventions.decode_cf_variable(
        name, xr.Variable(variable.dims, packed, variable.attrs), decode_times=False
    )
    values = np.array(decoded.to_numpy(), dtype=np.float64)
    missing: dict[str, int] = {}
    marked = np.isnan(values) & ~_is_nan(packed)
    if marked.any():
        keys = [key for key in ("_FillValue", "missing_value") if key in variable.attrs]
        markers = [f"{key} {_listed(variable.attrs[key])}" for key in keys]
        missing[f"equal {' or '.join(markers)}"] = int(marked.sum())
    masks = {
        f"lie outside {rule}": mask & ~np.isnan(values)
        for rule, mask in _out_of_range(variable, packed, values)
    }
    fill = (
        DEFAULT_FILLS.get(packed.dtype.str[1:])
        if default_fill and "_FillValue" not in variable.attrs
        else None
    )
    if fill is not None:
        masks[f"equal {fill:g}, which NetCDF holds where nothing was written"] = packed == packed.dtype.type(
            fill
        )
    for reason, mask in masks.items():
        if mask.any():
            missing[reason] = int(mask.sum())
            values[mask] = np.nan
    return Unpacked(values, missing)


def _out_of_range(
    variable: xr.Variable, packed: np.ndarray, values: Float64[np.ndarray, "..."]
) -> list[tuple[str, Bool[np.ndarray, "..."]]]:
    """A description of each limit, and the mask of the values outside it."""
    limits: list[tuple[str, Any, Any]] = []
    if (span := variable.attrs.get("valid_range")) is not None:
        low, high = np.ravel(span)
        limits.append((f"valid_range {low:g} to {high:g}", low, high))
    else:
        if (low := variable.attrs.get("valid_min")) is not None:
            limits.append((f"valid_min {np.ravel(low)[0]:g}", np.ravel(low)[0], None))
        if (high := variable.attrs.get("valid_max")) is not None:
            limits.append((f"valid_max {np.ravel(high)[0]:g}", None, np.ravel(high)[0]))
    masks = []
    for rule, low, high in limits:
        mask = np.zeros(packed.shape, dtype=bool)
        for limit, is_outside in ((low, np.less), (high, np.greater)):
            if limit is not None:
                with np.errstate(invalid="ignore"):
                    mask |= is_outside(*_comparable(variable, packed, values, np.asarray(limit)))
        masks.append((rule, mask))
    return masks


def _comparable(
    variable: xr.Variable, packed: np.ndarray, values: Float64[np.ndarray, "..."], limit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The values to compare with a limit, and the limit: packed integers and floats are compared in their own type."""
    if limit.dtype.kind in "iu" and packed.dtype.kind in "iu":
        return _signed_as_named(variable, packed), _signed_as_named(variable, limit)
    if limit.dtype.kind == "f" and packed.dtype.kind == "f":
        return packed, limit.astype(packed.dtype)
    return values, limit


def _signed_as_named(variable: xr.Variable, packed: np.ndarray) -> np.ndarray:
    """Packed integers with the sign that `_Unsigned` gives them."""
    unsigned = str(variable.attrs.get("_Unsigned", "")).lower()
    if unsigned == "true" and packed.dtype.kind == "i":
        return packed.view(f"u{packed.dtype.itemsize}")
    if unsigned == "false" and packed.dtype.kind == "u":
        return packed.view(f"i{packed.dtype.itemsize}")
    return packed


def _is_nan(packed: np.ndarray) -> Bool[np.ndarray, "..."]:
    return np.isnan(packed) if packed.dtype.kind == "f" else np.zeros(packed.shape, dtype=bool)


def _listed(value: Any) -> str:
    return ", ".join(f"{number:g}" for number in np.ravel(value)[:5])
