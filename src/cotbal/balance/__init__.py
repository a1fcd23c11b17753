"""Section 3 of the paper: from the scores of the probes to one weight per unit, with intervals and
a guard against meaningless numbers.
"""

from __future__ import annotations

from cotbal.balance.algorithm import balance, weight_draws
from cotbal.balance.guards import Flag
from cotbal.balance.needs import Need
from cotbal.balance.result import Balance
from cotbal.balance.settings import Settings

__all__ = ["Balance", "Flag", "Need", "Settings", "balance", "weight_draws"]
