"""The colours of every figure: safe for the colour-blind, one meaning each where there is one."""

from __future__ import annotations

import seaborn as sns

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY = sns.color_palette("colorblind")[:8]
ROLE_COLOURS = {"parent": BLUE, "child": ORANGE}
