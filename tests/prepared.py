"""Data sets as TFDS prepares them, made in a folder of a test."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """The PNG file of an image (h, w, 1 or 3) uint8."""
    encoded = io.BytesIO()
    Image.fromarray(image.squeeze()).save(encoded, "PNG")
    return encoded.getvalue()


def write_tfds(
    folder: Path, images: list[np.ndarray | bytes], labels: list[int], split="test", **changes
):
    """Writes what TFDS would have prepared, without TensorFlow; a second call adds a split.

    Args:
      folder: <name>/<version>.
      images: uint8 (h, w, c), the first at least; or bytes, written as they are.
      labels: of 3 classes, or -1.
      split: its name.
      **changes: features to rename (image="picture"), or another file_format.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder.mkdir(parents=True, exist_ok=True)
    name = folder.parent.name
    filename = f"{name}-{split}.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(folder / filename), "group_size:1")
    for image, label in zip(images, labels, strict=True):
        content = image if isinstance(image, bytes) else png(image)
        example = tf_example_pb2.Example()
        example.features.feature["image"].bytes_list.value.append(content)
        example.features.feature["label"].int64_list.value.append(label)
        writer.write(example.SerializeToString())
    writer.close()
    height, width, channels = images[0].shape
    core = "tensorflow_datasets.core.features."
    shapes = {image.shape for image in images if not isinstance(image, bytes)}
    sizes = (height, width) if len(shapes) == 1 else (-1, -1)
    image_shape = {"dimensions": [str(size) for size in (*sizes, channels)]}
    features = {
        "image": {
            "image": {"dtype": "uint8", "shape": image_shape},
            "pythonClassName": core + "image_feature.Image",
        },
        "label": {
            "classLabel": {"numClasses": "3"},
            "pythonClassName": core + "class_label_feature.ClassLabel",
        },
    }
    features = {changes.get(key, key): value for key, value in features.items()}
    (folder / "features.json").write_text(
        json.dumps(
            {
                "featuresDict": {"features": features},
                "pythonClassName": core + "features_dict.FeaturesDict",
            }
        )
    )
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    shard = {"name": split, "numBytes": "1000", "shardLengths": [str(len(images))]}
    info = folder / "dataset_info.json"
    others = json.loads(info.read_text())["splits"] if info.exists() else []
    info.write_text(
        json.dumps(
            {
                "name": name,
                "version": folder.name,
                "fileFormat": changes.get("file_format", "array_record"),
                "splits": [*others, shard | {"filepathTemplate": template}],
            }
        )
    )
