"""Every field, its unit and its source; the other configs are this one plus what differs."""

from ml_collections import ConfigDict

PAPER_ORDER = (
    "FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10", "FC200-200-10", "AE400-10",
)  # fmt: skip
ARGUMENTS = ("", "quick")


def get_config(argument: str = "") -> ConfigDict:
    """The shared fields. `argument` is what follows the colon of --config=FILE:ARGUMENT."""
    if argument not in ARGUMENTS:
        raise ValueError(f"unknown argument :{argument}; there is :quick (seconds on a CPU)")
    config = ConfigDict()
    config.experiment = "cross_model"  # a name in intriguing/experiments/__init__.py
    config.title = ""  # heading of the report; "": that of its first table
    config.quick = argument == "quick"  # a small version: the report says so
    config.seed = 0  # of everything random: weights, batches, targets, noise
    config.model_devices = 1  # that share a network's weights by rows (QuocNet's); 0: all of them
    config.num_seeds = 1  # runs with seed, seed + 1, ...; for experiments that give a spread

    config.data = data = ConfigDict()
    data.name = "digits"  # digits, mnist, idx, npz, image_folder, or any TFDS name
    data.dir = ""  # where the files are; "" means the environment variable INTRIGUING_DATA
    data.download = False  # whether TFDS may download and prepare the data (needs TensorFlow)
    data.image_size = 0  # pixels: short side and centre crop; 0 leaves images as they are
    data.num_train = 0  # how many training images to use; 0 means all of them

    config.train = train = ConfigDict()  # Adam with a cosine schedule, for every model
    train.num_epochs = 200
    train.batch_size = 100  # images per step, over all devices
    train.learning_rate = 3e-3  # at the start; the schedule ends at 0

    config.models = models = paper_models()  # what each model is; ConfigDict sorts its keys, so:
    config.model_names = tuple(sorted(models, key=PAPER_ORDER.index))  # which, and in what order

    config.attack = attack = ConfigDict()  # the paper's section 4.1
    attack.num_images = 0  # training images attacked, from the first on; 0 means all of them
    attack.targets = "random"  # random, runner_up, least_likely, fixed, or best
    attack.target_class = 0  # for targets="fixed"
    attack.solver = "batched"  # batched (in-flight batching), or jaxopt (the stock LBFGSB)
    attack.refine = True  # shrink r to a local minimum of |r| at the end; False: the paper's way
    attack.num_penalties = 4  # values of c per image, at most
    attack.maxiter = 60  # evaluations (jaxopt: iterations) per value of c, at most
    attack.tol = 1e-3  # max norm of the projected gradient of |r| + loss / c
    attack.rtol = 1e-4  # a solve ends when three steps lower |r| + loss / c by less than this part
    attack.history_size = 5  # pairs that L-BFGS remembers
    attack.squared_norm = False  # penalise |r|^2 in place of the paper's |r|
    attack.refine_steps = 3  # linearisations of the class boundary
    attack.num_margins = 9  # classes beside the target that each of them takes into account
    attack.num_lanes = 0  # images that each device works on at a time; 0: as suits the device
    config.protocols = ConfigDict({  # each differs from `attack` in what is named here
        "paper": {"refine": False, "num_penalties": 8, "maxiter": 100},
        "refined": {"refine": True},
    })  # fmt: skip
    config.shard_size = 10_000  # images per result file: what an interruption can cost

    config.trained_on = ConfigDict()  # model name -> P1 or P2, a half of the training set (table 3)
    config.amplified_stddev = 0.1  # table 4
    config.curve_stddevs = ()  # of the curve of transfer against amplification
    config.units = ConfigDict()  # figures 1 to 4
    config.units.layers = ()  # whose units, and as many directions, are looked at
    config.units.num_top = 10  # images per direction
    config.units.num_shown = 6  # directions in the figures, per layer
    config.noise_stddevs = (0.1, 0.3)  # Gaussian controls, table 2
    config.figure_noise_stddev = 1.0  # figure 7
    return config


def fully_connected(hidden_sizes: tuple[int, ...], *weight_decay: float) -> ConfigDict:
    """A sigmoid net; `weight_decay` gives lambda per layer from bottom to top (table 1)."""
    return ConfigDict({
        "family": "fully_connected",
        "hidden_sizes": hidden_sizes,
        "weight_decay": {f"fc{i}": decay for i, decay in enumerate(weight_decay, start=1)},
        "dropout_rates": (),  # of the inputs of each layer, bottom to top; () drops nothing
        "lipschitz_weight": 0.0,  # of the sum of the layers' squared operator norms
        "train": {},  # what differs from config.train
        "pools": pools(),
    })  # fmt: skip


def pools() -> ConfigDict:
    """Adversarial training (section 4.2): pools of examples per layer."""
    return ConfigDict({
        "weights": {},  # of each pool's loss, by layer ("images", "fc1_sigmoid", ...); {}: no pools
        "size": 60_000,  # examples per pool
        "replaced": 0.1,  # fraction that is made anew before every epoch
        "batch_size": 100,  # examples of each pool per step
        "stddevs": {},  # RMS that perturbations are scaled to, by layer; else they are minimal
        "first_epoch": 1,  # epochs on the data alone before the pools are made
        "targets": "random",  # a rule as attack.targets
        "attack_options": {"refine": False, "num_penalties": 1, "maxiter": 10, "tol": 1e-2,
                           "rtol": 1e-2},
    })  # fmt: skip


def conv_net(features: tuple[int, ...], num_units: int) -> ConfigDict:
    """Blocks of 5x5 convolution and pooling with `features` maps, a hidden layer, softmax."""
    return ConfigDict({
        "family": "conv_net",
        "features": features,
        "num_units": num_units,
        "weight_decay": {},
        "lipschitz_weight": 0.0,  # of the sum of the layers' squared operator norms
        "train": {},  # what differs from config.train
        "pools": pools(),
    })  # fmt: skip


def paper_models() -> ConfigDict:
    """The six models of table 1."""
    models = ConfigDict()
    models["FC10(1e-4)"] = fully_connected((), 1e-4)
    models["FC10(1e-2)"] = fully_connected((), 1e-2)
    models["FC10(1)"] = fully_connected((), 1.0)
    models["FC100-100-10"] = fully_connected((100, 100), 1e-5, 1e-5, 1e-6)
    models["FC200-200-10"] = fully_connected((200, 200), 1e-5, 1e-5, 1e-6)
    models["AE400-10"] = ConfigDict({
        "family": "autoencoder_classifier",
        "num_units": 400,
        "autoencoder": {
            "num_epochs": 200,
            "weight_decay": {"encoder": 1.0, "decoder": 2.0},  # strong: the filters are pen strokes
            "sparsity": 0.05,  # fraction of the images for which a unit is on
            "sparsity_weight": 3.0,  # nats per unit, beside the pixels' cross-entropy
        },
        "classifier": {"num_epochs": 200, "weight_decay": {"fc1": 1e-6}},
    })  # fmt: skip
    return models
