"""Models from files: the header of a GGUF or safetensors file, a model folder, a Hub id.

Only headers are read, never the weights, and no header is trusted: whatever the bytes are, the
answer is an `Imported` or an `InputError`.
"""

from configurator.importers.files import import_file, import_header_bytes
from configurator.importers.hub import import_hub
from configurator.importers.shared import Imported

__all__ = ["Imported", "import_file", "import_header_bytes", "import_hub"]
