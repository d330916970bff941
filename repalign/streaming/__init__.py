"""Linear CKA of any number of stimuli, exact: sums over stimuli take the place of all pairs of them.

With the rows of all layers of a side centred and laid next to each other, `X (n, Σd)` and `Y (n, Σd)`, and the squared
lengths `k_i = |x_i|²`, `l_i = |y_i|²` of one layer each, `C = XᵀY` and a few sums give, for each pair of layers,

    biased      ⟨HKH, HLH⟩ = |C|²
    debiased    n(n−3) HSIC₁ = |C|² − n/(n−2) Σ k_i l_i + Σ k_i Σ l_i / ((n−1)(n−2))

(HSIC₁: Song et al. 2012, JMLR 13, eq. 5). A first pass over the stimuli takes the sums; a second one, when C is
complete, takes what each deletion changes of them.

| file | idea |
|---|---|
| `blocks` | rows as they are read: shifted, scaled, checked |
| `panels` | which layers are multiplied in one pass, so that their products fit in memory |
| `products` | the first pass: the sums |
| `singles` | the second pass: every stimulus left out in turn |
| `grouping`, `groups`, `between` | the second pass: every group left out in turn, with or without the pairs within |
| `spread` | the standard error, from running sums of powers |
| `run` | all of it: `stream` |
| `once` | the first pass alone, over rows that come by once and are not kept |
"""

from repalign.streaming.once import Once, Sums
from repalign.streaming.run import Streamed, stream

__all__ = ["Once", "Streamed", "Sums", "stream"]
