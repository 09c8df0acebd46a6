# What `import intriguing` has, for type checkers and editors: it is loaded when first asked for.
from intriguing import analysis as analysis
from intriguing import attack as attack
from intriguing import data as data
from intriguing import experiments as experiments
from intriguing import models as models
from intriguing import plots as plots
from intriguing import report as report
from intriguing import runs as runs
from intriguing import solver as solver
from intriguing import torch as torch
from intriguing import training as training
from intriguing.analysis import lipschitz as lipschitz
from intriguing.analysis.lipschitz import certified_radius as certified_radius
from intriguing.analysis.lipschitz import lipschitz_bound as lipschitz_bound
from intriguing.analysis.lipschitz import operator_norm as operator_norm
from intriguing.analysis.transfer import transfer_table as transfer_table
from intriguing.analysis.units import coherence as coherence
from intriguing.analysis.units import top_images as top_images
from intriguing.attack import AttackOptions as AttackOptions
from intriguing.attack import AttackResult as AttackResult
from intriguing.attack import AttackStatus as AttackStatus
from intriguing.attack import amplify as amplify
from intriguing.attack import attack_batch as attack_batch
from intriguing.attack import choose_targets as choose_targets
from intriguing.attack import from_margin as from_margin
from intriguing.attack import gaussian_noise as gaussian_noise
from intriguing.attack import load as load
from intriguing.attack import minimal_perturbation as minimal_perturbation
from intriguing.attack import problem_of as problem_of
from intriguing.attack import robustness_curve as robustness_curve
from intriguing.attack import save as save
from intriguing.attack import solve as solve
from intriguing.errors import InputError as InputError
from intriguing.runs import load_results as load_results
from intriguing.solver import BatchedLBFGSB as BatchedLBFGSB

__version__: str
