"""Models of pictures: convolutions over pixels, and encoded files that the graph decodes."""

from typing import Any

import tensorflow as tf

from standins.saved_models.numbers import Spec, weights


class Convolutions(tf.Module):
    """Convolution, batch normalisation, pooling, a dense layer; and the best class."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.dense = tf.Variable(weights("c1", 3, 3, 1, 4)), tf.Variable(weights("c2", 64, 10))
        self.scale, self.offset = tf.Variable(tf.ones([4])), tf.Variable(tf.zeros([4]))
        self.mean, self.variance = tf.Variable(tf.zeros([4])), tf.Variable(tf.ones([4]))

    @tf.function(input_signature=[Spec([None, 8, 8, 1], tf.uint8, name="pixels")])
    def serve(self, pixels: Any) -> Any:
        hidden = tf.nn.conv2d(tf.cast(pixels, tf.float32) / 255, self.kernel, 1, "SAME")
        hidden, _, _ = tf.compat.v1.nn.fused_batch_norm(
            hidden, self.scale, self.offset, self.mean, self.variance, is_training=False
        )
        hidden = tf.nn.max_pool2d(tf.nn.relu(hidden), 2, 2, "VALID")
        scores = tf.nn.softmax(tf.reshape(hidden, [-1, 64]) @ self.dense)
        return {"scores": scores, "digit": tf.argmax(scores, 1)}


class Pictures(tf.Module):
    """Decode PNG or JPEG, row by row; the mean colour and the size."""

    @tf.function(input_signature=[Spec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: Any) -> Any:
        def look(data: Any) -> Any:
            pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.cast(pixels, tf.float32), [0, 1]), tf.shape(pixels)[:2]

        kinds = (Spec([3], tf.float32), Spec([2], tf.int32))
        colour, size = tf.map_fn(look, image_bytes, fn_output_signature=kinds)
        return {"colour": colour, "size": size}


class Thumbnails(tf.Module):
    """Decode, make smaller, encode again: bytes out."""

    @tf.function(input_signature=[Spec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: Any) -> Any:
        def shrink(data: Any) -> Any:
            small = tf.image.resize(tf.io.decode_jpeg(data, channels=3), [4, 4])
            return tf.io.encode_png(tf.cast(small, tf.uint8))

        return {"thumbnail_bytes": tf.map_fn(shrink, image_bytes, fn_output_signature=tf.string)}


def save_all(directory: str) -> None:
    """Write them all."""
    for name, kind in {"convolutions": Convolutions, "pictures": Pictures, "thumbnails": Thumbnails}.items():
        module = kind()
        tf.saved_model.save(module, f"{directory}/{name}/1", signatures=module.serve)
