"""The typed JSON codec: values, arguments and results as canonical bytes, by their annotations. No pickle.

What is written comes back equal and of the annotated type, or is refused when it is produced (`BadValue`). Mapping
keys, fields and sets are sorted: equal values have equal bytes in every process.
"""

from aob.kernel.codec_signature import SignatureCodec
from aob.kernel.codec_value import ValueCodec, codec_for
from aob.kernel.codec_wire import canonical, checksum

__all__ = ["SignatureCodec", "ValueCodec", "canonical", "checksum", "codec_for"]
