"""All forms by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from nncomp_lowrank.column_train import TrainOverColumns
from nncomp_lowrank.conv_forms import Cp, TensorTrain
from nncomp_lowrank.dense_forms import TrainOfMatrices, TreeOfMatrices
from nncomp_lowrank.forms import Spatial, Svd, SvdOfInputs, Tucker

FORMS: Final = MappingProxyType(
    {
        form.name: form
        for form in (
            Svd(),
            SvdOfInputs(),
            Spatial(),
            Tucker(),
            TensorTrain(),
            Cp(),
            TrainOverColumns(),
            TrainOfMatrices(),
            TreeOfMatrices(),
        )
    }
)
"""In the order in which equals are preferred: fewer ops first."""
